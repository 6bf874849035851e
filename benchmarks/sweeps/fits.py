"""Does a curve rise by as much with every doubling, and how well does lookahead's formula fit?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class LogLinear(NamedTuple):
    """``at_one`` + ``per_doubling`` · log2 x, by least squares; R² is what of it that explains."""

    at_one: float
    per_doubling: float
    r_squared: float

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> "LogLinear":
        """The fit of at least three points."""
        x, y = np.log2([point[0] for point in points]), np.array([point[1] for point in points])
        slope, start = np.polyfit(x, y, 1)
        rest = float(((y - start - slope * x) ** 2).sum())
        whole = float(((y - y.mean()) ** 2).sum())
        return cls(float(start), float(slope), 1 - rest / whole if whole else 1.0)


class Formula(NamedTuple):
    """Lookahead's scaling law (arXiv 2402.02057, section 4) with its two constants.

    Every ``every`` forwards there is a speculation of ``guesses`` n-grams, a token of which is
    right with the chance ``alpha``, if those before it are.
    """

    alpha: float
    every: float

    def tokens_each(self, guesses: int, ngram: int) -> float:
        """Tokens per forward."""
        return 1 + _beyond_one(self.alpha, guesses, ngram) / self.every

    @classmethod
    def of(cls, found: Sequence[tuple[int, int, float]]) -> "Formula":
        """The constants that come closest to (guesses, n-gram, tokens per forward)."""
        formulas = (cls._with(number / 1000, found) for number in range(10, 1000))
        return min(formulas, key=lambda formula: formula.error(found))

    @classmethod
    def _with(cls, alpha: float, found: Sequence[tuple[int, int, float]]) -> "Formula":
        """With this chance and what then fits best: all else is linear in ``1 / every``."""
        beyond = np.array([_beyond_one(alpha, g, n) for g, n, _ in found])
        share = float(beyond @ [tokens - 1 for _, _, tokens in found] / (beyond @ beyond))
        return cls(alpha, 1 / min(1.0, share))

    def error(self, found: Sequence[tuple[int, int, float]]) -> float:
        """How far it is from them, root mean square."""
        squares = [(self.tokens_each(g, n) - tokens) ** 2 for g, n, tokens in found]
        return float(np.sqrt(np.mean(squares)))


def _beyond_one(alpha: float, guesses: int, ngram: int) -> float:
    """What a speculation brings beside the token that is had anyway."""
    length = ngram - 1
    return length - sum((1 - alpha**depth) ** guesses for depth in range(1, length + 1))
