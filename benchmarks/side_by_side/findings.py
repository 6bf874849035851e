"""From records to speeds and ratios. Decides nothing: goals and words are others'.

More is always better, except for times. Answers that end in a loop count only where it is said.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.comparisons import Spread
from benchmarks.side_by_side.journal import Answered, Record
from benchmarks.side_by_side.run import ALONE
from benchmarks.side_by_side.sessions import Size
from benchmarks.side_by_side.ways import Way

Measure = Callable[[Answered], float | None]

Asked = tuple[int, str, int]
"""A question of a way: the round, the session and its number there."""


def whole(answer: Answered) -> float:
    """Tokens a second from the question to the end of the answer."""
    return answer.tokens / answer.seconds


def decoding(answer: Answered) -> float | None:
    """Tokens a second behind the first piece of text."""
    return answer.decode_speed


def first_token(answer: Answered) -> float:
    """Milliseconds until the first piece of text."""
    return 1000 * answer.first


class Findings(NamedTuple):
    """All that was found out, and by whom."""

    ways: Sequence[Way]
    categories: Sequence[str]
    records: Sequence[Record]
    failed: Mapping[str, str]  # servers that did not start
    facts: Mapping[str, str]
    command: str
    size: Size
    is_complete: bool

    @property
    def streams(self) -> Sequence[int]:
        """How many were put side by side."""
        return self.size.streams

    def way(self, name: str) -> Way | None:
        """Who has this name, if they were asked."""
        return next((way for way in self.ways if way.name == name), None)

    def answers(
        self,
        way: str,
        categories: Iterable[str] | None = None,
        *,
        streams: int = ALONE,
        loops: bool | None = False,
    ) -> dict[Asked, Answered]:
        """The answers of a way; None takes loops and others."""
        wanted = None if categories is None else set(categories)
        return {
            (record.round, answer.session, answer.number): answer
            for record in self.records
            if record.way == way and record.streams == streams
            for answer in record.answers
            if (wanted is None or answer.category in wanted) and loops in (None, answer.is_loop)
        }

    def values(
        self, way: str, measure: Measure, category: str | None = None, *, streams: int = ALONE
    ) -> list[float]:
        """What was measured of every answer that has it."""
        categories = None if category is None else [category]
        found = self.answers(way, categories, streams=streams).values()
        return [value for each in found if (value := measure(each)) is not None]

    def gaps(self, way: str, streams: int) -> list[float]:
        """The seconds between pieces of text, of all answers together."""
        found = self.answers(way, streams=streams, loops=None).values()
        return [gap for answer in found for gap in answer.gaps]

    def tokens_per_forward(self, way: str, category: str | None = None) -> float | None:
        """Of all answers together, where the server tells."""
        categories = None if category is None else [category]
        found = [each for each in self.answers(way, categories).values() if each.forwards]
        forwards = sum(each.forwards or 0 for each in found)
        return sum(each.tokens for each in found) / forwards if forwards else None

    def speeds(self, way: str, streams: int) -> dict[int, float]:
        """Tokens a second of all streams together, by round."""
        return {
            record.round: record.speed
            for record in self.records
            if record.way == way and record.streams == streams and record.speed is not None
        }

    def throughput(self, way: str, streams: int) -> list[float]:
        """Tokens a second of all streams together, round by round; of one stream over all rounds.

        Loops are included: a load cannot be had without them.
        """
        if streams > ALONE:
            return list(self.speeds(way, streams).values())
        answers = self.answers(way, loops=None).values()
        seconds = sum(each.seconds for each in answers)
        return [sum(each.tokens for each in answers) / seconds] if seconds else []

    def ratios(
        self, ours: str, theirs: str, categories: Sequence[str], measure: Measure = whole
    ) -> list[float]:
        """Ours ÷ theirs for every question that both answered, and neither in a loop."""
        mine, others = self.answers(ours, categories), self.answers(theirs, categories)
        pairs = [(measure(mine[key]), measure(others[key])) for key in mine if key in others]
        return [a / b for a, b in pairs if a and b]

    def load_ratios(self, ours: str, theirs: str, streams: int) -> list[float]:
        """The same of the speeds under load, round by round."""
        mine, others = self.speeds(ours, streams), self.speeds(theirs, streams)
        return [mine[number] / others[number] for number in mine if number in others]

    def loops(self, way: str) -> int:
        """How many of the answers to one stream end in the same words over and over."""
        return len(self.answers(way, loops=True))

    def different(self, way: str, other: str) -> tuple[int, int]:
        """How many answers of two ways differ, and how many there are of both."""
        mine, others = (self.answers(each, loops=None) for each in (way, other))
        both = mine.keys() & others.keys()
        return sum(mine[key].text != others[key].text for key in both), len(both)


def spread(values: Sequence[float]) -> Spread | None:
    """Their median and range, if there are any."""
    return Spread.of(values) if values else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value under which such a share of them lies."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def middle(values: Sequence[float]) -> float | None:
    """Their median, if there are any."""
    return median(values) if values else None
