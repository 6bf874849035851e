"""Continuous load: as one request ends the next one begins, so the batch stays full."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from benchmarks.answering import asking
from decoding.engine import Engine
from decoding.report import StepReport
from decoding.request import OptionValue


class Prompt(NamedTuple):
    """What is asked, what it is counted under, and the most tokens of its answer."""

    category: str
    tokens: tuple[int, ...]
    max_tokens: int


class Served(NamedTuple):
    """One request that was answered: how many tokens, and from its start to its end."""

    category: str
    tokens: tuple[int, ...]
    seconds: float


@dataclass
class Load:
    """What a full batch did, from the first step until there was nobody left to keep it full."""

    seconds: float = 0.0
    steps: int = 0
    tokens: int = 0
    drafting_steps: int = 0
    drafting_seconds: float = 0.0  # of the steps with drafts
    drafting_guesses: float = 0.0  # of them spent on guessing and choosing what is verified
    guessing_seconds: float = 0.0  # the same of all steps
    served: dict[int, Served] = field(default_factory=dict)  # by number of the prompt

    @property
    def tokens_per_second(self) -> float:
        """Of all streams together."""
        return self.tokens / self.seconds

    @property
    def guessing_share(self) -> float:
        """The part of all steps spent on guessing."""
        return self.guessing_seconds / self.seconds

    @property
    def guessing_share_of_drafting(self) -> float:
        """The part of it in steps in which anything was drafted."""
        return self.drafting_guesses / self.drafting_seconds if self.drafting_seconds else 0.0

    def add(self, report: StepReport) -> None:
        """Count a step."""
        drafted = sum(output.drafted for output in report.outputs)
        self.seconds += report.seconds
        self.steps += 1
        self.tokens += sum(len(output.tokens) for output in report.outputs)
        self.guessing_seconds += report.draft_seconds
        if drafted:
            self.drafting_steps += 1
            self.drafting_seconds += report.seconds
            self.drafting_guesses += report.draft_seconds


def in_turn(number: int, streams: int, max_tokens: int) -> int:
    """The most tokens of an answer: of the first ones each a little more than of the one before.

    Users do not begin all at once. Plain decoding would else have all answers of the greatest
    length end in one step, and read all new prompts in one large forward.
    """
    return max_tokens * min(number + 1, streams) // streams


def under_load(
    engine: Engine,
    prompts: Sequence[Prompt],
    streams: int,
    strategy: str,
    options: Mapping[str, OptionValue],
) -> Load:
    """Answer the prompts in their order, ``streams`` at a time, as long as so many are there.

    Who asks what was asked before is another tenant: earlier answers are no help.
    """
    load = Load()
    times_asked: Counter[tuple[int, ...]] = Counter()
    waiting = iter(enumerate(prompts))
    live: dict[str, tuple[int, float, list[int]]] = {}

    def begin() -> bool:
        for number, prompt in waiting:
            _, tokens, max_tokens = prompt
            salt = f"tenant {times_asked[tokens]}"
            times_asked[tokens] += 1
            engine.add(asking(str(number), tokens, max_tokens, strategy, options, salt=salt))
            live[str(number)] = number, perf_counter(), []
            return True
        return False

    while all(begin() for _ in range(streams - len(live))):
        report = engine.step()
        load.add(report)
        for output in report.outputs:
            number, started, tokens = live[output.request_id]
            tokens += output.tokens
            if output.finish_reason is not None:
                del live[output.request_id]
                seconds = perf_counter() - started
                load.served[number] = Served(prompts[number].category, tuple(tokens), seconds)
    _abort(engine, live)
    return load


def _abort(engine: Engine, names: Iterable[str]) -> None:
    for name in names:
        engine.abort(name)
