"""Whether drafting pays at all: tokens a second with it and without it, all its costs included.

The budget predicts what a forward costs; what it cannot see is the work of guessing, of choosing
more tokens, and its own mistakes. So both ways of stepping are measured as they happen, apart for
every size of batch, and the slower one rests. A request alone is left to the budget: rows beside
its own are cheap, and requests differ more than a few steps can tell.
"""

from collections import defaultdict

from decoding.report import Pace

_DECAY = 0.95  # of what was measured, with every step: about the last twenty count
_STEPS_TO_JUDGE = 12
_FIRST_PLAIN_STEPS = 3
_STEPS_BETWEEN_CHECKS = 192  # of drafting, before plain steps are measured again
_SHORTEST_REST, _LONGEST_REST = 24, 192  # steps


class _Rate:
    """Tokens a second, lately."""

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0

    @property
    def value(self) -> float:
        return self._tokens / self._seconds if self._seconds else 0.0

    def add(self, tokens: int, seconds: float) -> None:
        self._tokens = self._tokens * _DECAY + tokens
        self._seconds = self._seconds * _DECAY + seconds


class _Size:
    """What is known of batches of about one size."""

    def __init__(self) -> None:
        self.drafting, self.plain = _Rate(), _Rate()
        self._rest = _FIRST_PLAIN_STEPS  # plain steps to come
        self._next_rest = _SHORTEST_REST
        self._tried = 0  # drafting steps since the last rest
        self._catches_up = False  # the next drafting step is the first one after a rest

    @property
    def allows(self) -> bool:
        return self._rest <= 0

    def observe(self, *, drafting: bool, tokens: int, seconds: float) -> None:
        if not drafting:
            self.plain.add(tokens, seconds)
            self._rest -= 1
            self._catches_up = True
            return
        if self._catches_up:  # strategies hear of all that was said meanwhile: nothing to go by
            self._catches_up = False
            return
        if not self._tried:  # after a rest everything may be different
            self.drafting = _Rate()
        self.drafting.add(tokens, seconds)
        self._tried += 1
        if self._tried >= _STEPS_TO_JUDGE and self.drafting.value < self.plain.value:
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
            self._tried = 0
        elif self._tried >= _STEPS_BETWEEN_CHECKS:
            self._rest, self._next_rest = _FIRST_PLAIN_STEPS, _SHORTEST_REST
            self._tried = 0


class Governor:
    """Allows drafting, or lets it rest."""

    def __init__(self) -> None:
        self._sizes: defaultdict[int, _Size] = defaultdict(_Size)

    def allows(self, sequences: int) -> bool:
        """Whether a step of so many sequences should draft; one alone always may."""
        return sequences <= 1 or self._sizes[sequences.bit_length()].allows

    def paces(self) -> list[Pace]:
        """What was measured, by size of batch."""
        return [
            Pace(
                least=1 << (bits - 1),
                most=(1 << bits) - 1,
                drafting=size.drafting.value,
                plain=size.plain.value,
                is_resting=not size.allows,
            )
            for bits, size in sorted(self._sizes.items())
        ]

    def observe(self, sequences: int, *, drafting: bool, tokens: int, seconds: float) -> None:
        """Take note of a step in which so many sequences went on, and nobody read a prompt."""
        size = self._sizes[sequences.bit_length()]
        size.observe(drafting=drafting, tokens=tokens, seconds=seconds)
