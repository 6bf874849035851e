"""How often a yes or no was right."""

from collections.abc import Sequence
from typing import NamedTuple


class Figures(NamedTuple):
    """Shares, 0..1: of all answers that are right, of all yes that are, of what is yes found."""

    accuracy: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def figures(said: Sequence[bool], true: Sequence[bool]) -> Figures:
    """Compare what was said with what is true; where there is nothing to be right, it is 1."""
    pairs = list(zip(said, true, strict=True))
    found = pairs.count((True, True))
    return Figures(
        accuracy=_share(found + pairs.count((False, False)), len(pairs)),
        precision=_share(found, sum(said)),
        recall=_share(found, sum(true)),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
