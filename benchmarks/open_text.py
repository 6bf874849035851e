"""What lookahead is measured on, in which ways, and what is found out: plain values."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.answering import Answer
from benchmarks.continuous import Load
from benchmarks.replay import Replay
from decoding.request import OptionValue


class Way(NamedTuple):
    """A way to decode: a strategy with options."""

    name: str
    strategy: str
    options: Mapping[str, OptionValue] = MappingProxyType({})

    def __hash__(self) -> int:
        return hash(self.name)


PLAIN = Way("plain", "autoregressive")
LOOKAHEAD = Way("lookahead", "lookahead")
JACOBI = Way("jacobi", "jacobi")
ALONE = (PLAIN, LOOKAHEAD, JACOBI)

_NOTHING: dict[str, OptionValue] = {
    "window": 0,
    "copying": False,
    "recycling": False,
    "phrases": False,
}
_WINDOW: dict[str, OptionValue] = {"window": 7, "ngram": 5, "guesses": 7}
WINDOW_ALONE = Way("the window alone, as published", "lookahead", {**_NOTHING, **_WINDOW})
SOURCES = (
    WINDOW_ALONE,
    Way("known text alone", "lookahead", {**_NOTHING, "copying": True}),
    Way("recycled rows alone", "lookahead", {**_NOTHING, "recycling": True}),
    Way("earlier answers alone", "lookahead", {**_NOTHING, "phrases": True}),
    Way("all, and the window while it pays", "lookahead", _WINDOW),
    Way("jacobi as published", "jacobi", {"shrinking": True}),
)


class Question(NamedTuple):
    """One turn, what plain decoding answers, and how prompt lookup would have done."""

    category: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    is_loop: bool
    lookup: Replay


class Batch(NamedTuple):
    """The same questions, so many at a time, decoded in two ways."""

    streams: int
    plain: Load
    drafting: Load


class Findings(NamedTuple):
    """All that was found out.

    ``alone`` holds for every round the answers to every question in every way, ``sources`` for
    every other way its answers.
    """

    questions: Sequence[Question]
    alone: Sequence[Sequence[Mapping[Way, Answer]]]
    sources: Mapping[Way, Sequence[Answer]]
    batches: Sequence[Batch]

    def numbers(self, category: str | None = None, *, loops: bool = False) -> list[int]:
        """The questions of a category, or of all, that end in a loop or do not."""
        return [
            number
            for number, question in enumerate(self.questions)
            if category in (None, question.category) and question.is_loop == loops
        ]

    def replay(self, way: Way, numbers: Sequence[int]) -> Replay:
        """What a way took for some questions, in the first round: nothing was learned from them."""
        if way in self.sources:
            found = [self.sources[way][number] for number in numbers]
        else:
            found = [self.alone[0][number][way] for number in numbers]
        return added(answer.replay for answer in found)

    def ratios(self, way: Way, numbers: Sequence[int]) -> list[float]:
        """How many times as fast as plain decoding whole answers are, round by round."""
        return [
            sum(each[number][PLAIN].seconds for number in numbers)
            / sum(each[number][way].seconds for number in numbers)
            for each in self.alone
        ]


def added(replays: Iterable[Replay]) -> Replay:
    """All together."""
    return reduce(Replay.plus, replays)
