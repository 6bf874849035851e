"""What forwards would take, by a curve that was measured before: a projection, not a measurement.

The curve is that of ``docs/benchmarks/steps.md``, measured on a machine that did nothing else. So
the projection changes with that page and never with the load of the machine that sweeps.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.sweeps.unbounded import Forwards
from decoding.cost import ROWS, CostModel, Work

STEPS_PAGE = ROOT / "docs" / "benchmarks" / "steps.md"
_SECTION = "## What more tokens cost"
_ROW = re.compile(r"^\|\s*(\d+)\s*\|[^|]*\|[^|]*\|\s*([\d.]+)\s*\|", re.MULTILINE)


def measured_curve(page: Path = STEPS_PAGE) -> dict[int, float]:
    """Milliseconds of a forward by its rows, as the page has them for our kernels.

    Raises:
        ValueError: the page has no such table.
    """
    _, _, section = page.read_text(encoding="utf-8").partition(_SECTION)
    curve = {int(found[1]): float(found[2]) for found in _ROW.finditer(section)}
    if len(curve) < 2 or 1 not in curve:
        raise ValueError(f"{page} does not say what more tokens cost")
    return curve


class Projection:
    """The price list that the curve gives. Beyond its end it goes on as its last piece does."""

    def __init__(self, curve: Mapping[int, float]) -> None:
        self._cost = CostModel([_at(curve, rows) for rows in ROWS], 0.0, 0.0)

    def speed_up(self, forwards: Forwards) -> float:
        """Times as fast as plain decoding of the same tokens, the work of guessing not counted."""
        return forwards.tokens * self._time([1]) / self._time(forwards.rows)

    def _time(self, rows: Iterable[int]) -> float:
        return sum(self._cost.seconds(Work(each, 0, 0)) for each in rows)


def _at(curve: Mapping[int, float], rows: int) -> float:
    pieces = list(pairwise(sorted(curve.items())))
    (low, its), (high, time) = next((p for p in pieces if rows <= p[1][0]), pieces[-1])
    return its + (time - its) * (rows - low) / (high - low)
