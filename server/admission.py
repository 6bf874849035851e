"""Who may begin: one decision before any work is done for a request, and the permits it gave."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from server.comebacks import Comebacks, whole_seconds
from server.errors import backlogged, queue_full

_CHARACTERS_PER_TOKEN = 4  # of a prompt that is not tokenised yet


def estimated_tokens(num_characters: int) -> int:
    """About how many tokens a text of this length has."""
    return num_characters // _CHARACTERS_PER_TOKEN


@dataclass(frozen=True, kw_only=True)
class Caps:
    """How much may be in progress at once, running and waiting together.

    ``answers`` counts every choice of every prompt, ``per_key`` those of one API key.
    ``first_token_seconds`` is how long reading all prompts that wait may take.
    """

    answers: int = 256
    per_key: int = 256
    first_token_seconds: float = 30.0


@dataclass(eq=False)
class Permit:
    """One request in progress: how many answers, and how many prompt tokens wait to be read."""

    tenant: str
    answers: int
    waiting_tokens: int
    since: float  # monotonic


class Admission:
    """Gives permits and takes them back. For one event loop: nothing here waits.

    ``prefill_rate`` says how many prompt tokens a second are read here; None: not known yet.
    """

    def __init__(self, caps: Caps, prefill_rate: Callable[[], float | None]) -> None:
        self.caps = caps
        self._prefill_rate = prefill_rate
        self._permits: set[Permit] = set()
        self._answers: Counter[str] = Counter()  # by tenant
        self._waiting_tokens = 0
        self._comebacks = Comebacks(caps.answers)
        self._comebacks_of_key: defaultdict[str, Comebacks] = defaultdict(
            lambda: Comebacks(caps.per_key)
        )

    @property
    def requests(self) -> int:
        """Requests in progress."""
        return len(self._permits)

    @property
    def answers(self) -> int:
        """Answers in progress, running and waiting."""
        return self._answers.total()

    @property
    def waiting_tokens(self) -> int:
        """Prompt tokens of requests that have not answered anything yet."""
        return self._waiting_tokens

    def check_room(self, tenant: str) -> None:
        """Refuse before anything of a request is read, if no answer may begin at all.

        Raises:
            ApiError: as many answers as may be are in progress.
        """
        self._check_places(tenant, 1)

    @contextmanager
    def permit(self, tenant: str, answers: int, prompt_tokens: int) -> Iterator[Permit]:
        """Hold a permit, for a prompt of about so many tokens.

        Raises:
            ApiError: there is too much to do already.
        """
        self._check(tenant, answers, prompt_tokens)
        permit = Permit(tenant, answers, prompt_tokens, time.monotonic())
        self._permits.add(permit)
        self._answers[tenant] += answers
        self._waiting_tokens += prompt_tokens
        try:
            yield permit
        finally:
            self._give_back(permit)

    def weigh(self, permit: Permit, prompt_tokens: int) -> None:
        """Correct the estimate: so many tokens of its prompt wait to be read (0: none any more)."""
        if permit in self._permits:
            self._waiting_tokens += prompt_tokens - permit.waiting_tokens
            permit.waiting_tokens = prompt_tokens

    def _give_back(self, permit: Permit) -> None:
        self.weigh(permit, 0)
        self._permits.remove(permit)
        self._answers[permit.tenant] -= permit.answers
        if not self._answers[permit.tenant]:
            del self._answers[permit.tenant]
        held = time.monotonic() - permit.since
        self._comebacks.freed(held)
        self._comebacks_of_key[permit.tenant].freed(held)

    def _check(self, tenant: str, answers: int, prompt_tokens: int) -> None:
        self._check_places(tenant, answers)
        self._check_backlog(prompt_tokens)

    def _check_places(self, tenant: str, answers: int) -> None:
        if self.answers + answers > self.caps.answers:
            raise queue_full(self.caps.answers, self._comebacks.next_turn(time.monotonic()))
        if self._answers[tenant] + answers > self.caps.per_key:
            turn = self._comebacks_of_key[tenant].next_turn(time.monotonic())
            raise queue_full(self.caps.per_key, turn, of_key=True)

    def _check_backlog(self, prompt_tokens: int) -> None:
        """What waits must be read in time; a request that nothing waits before is always taken."""
        rate = self._prefill_rate()
        if rate is None or not self._waiting_tokens:
            return
        seconds = (self._waiting_tokens + prompt_tokens) / rate
        if seconds > self.caps.first_token_seconds:
            raise backlogged(whole_seconds(seconds - self.caps.first_token_seconds))
