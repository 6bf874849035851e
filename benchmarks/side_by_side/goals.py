"""What was aimed at, and what became of it: Stride's default against the best mode of each peer."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.comparisons import Spread, Verdict
from benchmarks.report import spread_text
from benchmarks.side_by_side import ways
from benchmarks.side_by_side.findings import Findings, Measure, decoding, spread, whole
from benchmarks.side_by_side.sessions import CHAT, EDIT, LIST, PREDICTED, RETRIEVAL, REWRITE
from benchmarks.side_by_side.ways import Way

COPYING = (RETRIEVAL, EDIT, PREDICTED, REWRITE)
_WITHIN, _NOT_BELOW = 0.95, 0.97


class Goal(NamedTuple):
    """A ratio that should be reached: its median decides."""

    title: str
    against: str
    ratio: Spread | None
    at_least: float

    @property
    def verdict(self) -> Verdict:
        """Whether it is."""
        if self.ratio is None:
            return "not measured"
        return "met" if self.ratio.median >= self.at_least else "**missed**"

    def row(self) -> list[str]:
        """A line of the table."""
        measured = "–" if self.ratio is None else spread_text(self.ratio, "{:.2f}", "×")
        return [self.title, self.against, measured, f"≥ {self.at_least:g}×", self.verdict]


def goals(found: Findings) -> Iterable[Goal]:
    """All of them, in the order in which they were set."""
    llama, serve = (ways.LLAMA, ways.LLAMA_NGRAMS), (ways.SERVE, ways.LOOKUP, ways.BATCHING)
    title = "one stream, open chat, decoding"
    yield _alone(found, title, ways.AUTO, llama, 1.0, [CHAT], decoding)
    yield _alone(found, title, ways.AUTO, serve, 5.0, [CHAT], decoding)
    title = "one stream, retrieval and editing, end to end"
    yield _alone(found, title, ways.AUTO, (ways.LLAMA_NGRAMS,), 3.0, COPYING)
    yield _alone(found, title, ways.AUTO, (ways.LOOKUP,), 3.0, COPYING)
    title = "one stream, list questions, points allowed, end to end"
    yield _alone(found, title, ways.POINTS, (ways.PLAIN,), 2.0, [LIST])
    yield _alone(found, title, ways.POINTS, llama, 2.0, [LIST])
    yield _loaded(found, llama, 4.0)
    yield _loaded(found, (ways.BATCHING,), 5.0)
    yield _worst(found, "one stream, `auto` ÷ the best fixed strategy", ways.STRATEGIES, _WITHIN)
    yield _worst(found, "one stream, `auto` ÷ plain decoding", (ways.PLAIN,), _NOT_BELOW)


def _alone(
    found: Findings,
    title: str,
    ours: Way,
    theirs: Sequence[Way],
    at_least: float,
    categories: Sequence[str],
    measure: Measure = whole,
) -> Goal:
    ratios = {way.name: found.ratios(ours.name, way.name, categories, measure) for way in theirs}
    return _against_the_best(title, ratios, at_least)


def _loaded(found: Findings, theirs: Sequence[Way], at_least: float) -> Goal:
    streams = max(found.streams, default=0)
    ratios = {way.name: found.load_ratios(ways.AUTO.name, way.name, streams) for way in theirs}
    return _against_the_best(f"{streams} streams, mixed, all together", ratios, at_least)


def _against_the_best(title: str, ratios: dict[str, list[float]], at_least: float) -> Goal:
    """The best of them is the one that leaves us the least."""
    measured = {name: values for name, values in ratios.items() if values}
    if not measured:
        return Goal(title, " or ".join(ratios), None, at_least)
    best = min(measured, key=lambda name: median(measured[name]))
    return Goal(title, best, spread(measured[best]), at_least)


def _worst(found: Findings, title: str, theirs: Sequence[Way], at_least: float) -> Goal:
    """The category in which the default is furthest behind."""
    worst = None
    for category in found.categories:
        for way in theirs:
            values = found.ratios(ways.AUTO.name, way.name, [category])
            if values and (worst is None or median(values) < median(worst[1])):
                worst = f"{way.name.removeprefix('Stride, ')}, {category}", values
    if worst is None:
        return Goal(title, "worst category", None, at_least)
    return Goal(f"{title}, worst category", worst[0], spread(worst[1]), at_least)
