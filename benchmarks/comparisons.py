"""From samples to medians, ratios and verdicts.

A sample is a speed, so more is always better; samples of the same place in two lists were taken
right after each other and are compared with each other.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from benchmarks.contestants import (
    ENGINE,
    GENERATE,
    LLAMA_CPP,
    STRIDE,
    STRIDE_BF16,
    TRANSFORMERS,
)
from benchmarks.timing import Timing
from benchmarks.workloads import DECODE, PREFILL, STREAMS_8, STREAMS_16

Verdict = Literal["met", "**missed**", "not measured", "no target"]


class Series(NamedTuple):
    """Whose samples of which workload."""

    workload: str
    contestant: str


Samples = Mapping[Series, Sequence[float]]


class Spread(NamedTuple):
    """A median and the range around it."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


class Comparison(NamedTuple):
    """One series divided by another, and how much that should be."""

    title: str
    ours: Series
    theirs: Series
    at_least: float | None = None

    def ratio(self, samples: Samples) -> Spread | None:
        """The spread of the paired ratios, or None where one of the two did not run.

        Where one has fewer samples (one group of eight against three single prompts), medians
        of each are compared instead.
        """
        ours, theirs = samples.get(self.ours), samples.get(self.theirs)
        if not ours or not theirs:
            return None
        if len(ours) != len(theirs):
            theirs = [statistics.median(theirs)] * len(ours)
        return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])

    def verdict(self, samples: Samples) -> Verdict:
        """Whether the median reaches the target."""
        ratio = self.ratio(samples)
        if ratio is None:
            return "not measured"
        if self.at_least is None:
            return "no target"
        return "met" if ratio.median >= self.at_least else "**missed**"


def _versus(
    workload: str, noun: str, ours: str, theirs: str, at_least: float | None = None
) -> Comparison:
    """One contestant against another."""
    title = f"{noun}: {ours} ÷ {theirs}"
    return Comparison(title, Series(workload, ours), Series(workload, theirs), at_least)


def _eight_to_one(name: str, at_least: float | None = None) -> Comparison:
    title = f"8 streams ÷ 1 stream: {name}"
    return Comparison(title, Series(STREAMS_8, name), Series(DECODE, name), at_least)


# The time to the first token is what prefill takes: three times the speed is a third of the time.
COMPARISONS = (
    _versus(DECODE, "Decode", STRIDE, LLAMA_CPP, 0.75),
    _versus(DECODE, "Decode", STRIDE, TRANSFORMERS, 3.0),
    _versus(DECODE, "Decode", STRIDE, GENERATE, 1.3),
    _versus(DECODE, "Decode", ENGINE, GENERATE, 1.3),
    _versus(DECODE, "Decode", STRIDE_BF16, GENERATE, 1.3),
    _versus(DECODE, "Decode", STRIDE_BF16, TRANSFORMERS),
    _versus(PREFILL, "Prefill", STRIDE, LLAMA_CPP, 3.0),
    _versus(PREFILL, "Prefill", STRIDE, TRANSFORMERS, 1.0),
    _versus(PREFILL, "Prefill", STRIDE, GENERATE, 1.0),
    _versus(PREFILL, "Prefill", ENGINE, GENERATE, 1.0),
    _versus(PREFILL, "Prefill", STRIDE_BF16, GENERATE),
    _versus(STREAMS_16, "16 streams", STRIDE, LLAMA_CPP, 4.0),
    _versus(STREAMS_16, "16 streams", STRIDE, TRANSFORMERS, 5.0),
    _versus(STREAMS_16, "16 streams", STRIDE_BF16, TRANSFORMERS),
    _eight_to_one(STRIDE, 3.0),
    _eight_to_one(LLAMA_CPP),
    _eight_to_one(TRANSFORMERS),
    _versus(DECODE, "What is left over HTTP", STRIDE, ENGINE, 0.95),
)
MOONSHOT = _versus(DECODE, "Moonshot", STRIDE, LLAMA_CPP, 1.0)


class Agreement(NamedTuple):
    """Whether a contestant's greedy answers are those of Stride's engine."""

    contestant: str
    equal: int
    answers: int
    first_difference: str = ""


def agreement(name: str, answers: Sequence[Timing], reference: Sequence[Timing]) -> Agreement:
    """Compare answers to the same prompts, by tokens where they are known and else by text."""
    pairs = list(zip(answers, reference, strict=True))
    differences = [found for a, b in pairs if (found := difference(a, b)) is not None]
    first = min(differences, default=None)
    where = "" if first is None else f"{first[1]} {first[0]}"
    return Agreement(name, len(pairs) - len(differences), len(pairs), where)


def difference(answer: Timing, reference: Timing) -> tuple[int, str] | None:
    """Where two answers part (counted from 0), and in which unit; None if they do not."""
    if answer.tokens and reference.tokens:
        return parting(answer.tokens, reference.tokens, "token")
    return parting(answer.text, reference.text, "character")


def parting(a: Sequence[Any], b: Sequence[Any], unit: str) -> tuple[int, str] | None:
    """The index of the first difference; a missing end is one."""
    if a == b:
        return None
    same = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(same, min(len(a), len(b))), unit
