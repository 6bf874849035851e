"""Whether a question asks for points that can be written independently of each other.

Such an answer can be written by Skeleton-of-Thought (arXiv 2307.15337): first its points, then
all of them at once. A logistic regression over a question's features decides, in well under two
milliseconds and without asking a model; ``python -m benchmarks.router.train`` makes its weights.
"""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from server.question_features import features

WEIGHTS = Path(__file__).with_name("router_weights.json")

Kind = Literal["independent", "dependent", "other"]


class Verdict(NamedTuple):
    """What kind of answer a question asks for.

    ``independent``: points of which none needs another; ``dependent``: steps or one argument, each
    part building on those before; ``other``: anything that is not a list. ``probability``, 0..1,
    is that of ``independent``.
    """

    kind: Kind
    probability: float


class Scores(NamedTuple):
    """Logarithms of how much likelier two kinds are than ``other``."""

    independent: float
    dependent: float


class Weights(Struct, frozen=True):
    """What was learned. A question is ``independent`` from the probability ``threshold`` on."""

    threshold: float
    bias: Scores
    features: Mapping[str, Scores]


class Router:
    """Judges questions; keeps nothing of them, so that any thread may ask."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def judge(self, question: str) -> Verdict:
        """Judge any text; of a long one both ends are read, where instructions stand."""
        independent, dependent = self._scores(question)
        probability = _probability(independent, dependent)
        if probability >= self._weights.threshold:
            return Verdict("independent", probability)
        return Verdict("dependent" if dependent > 0 else "other", probability)

    def _scores(self, question: str) -> Scores:
        learned = self._weights.features
        # Sorted: a sum of floats depends on its order, and that of a set on the process.
        found = [learned[name] for name in sorted(features(question)) if name in learned]
        return Scores(
            self._weights.bias.independent + sum(scores.independent for scores in found),
            self._weights.bias.dependent + sum(scores.dependent for scores in found),
        )


@cache
def default_router() -> Router:
    """The router with the weights that come with Stride."""
    return Router(msgspec.json.decode(WEIGHTS.read_bytes(), type=Weights))


def _probability(independent: float, dependent: float) -> float:
    """The softmax of the first among these and ``other``, whose score is 0."""
    highest = max(independent, dependent, 0.0)  # so that nothing overflows
    shares = [math.exp(score - highest) for score in (independent, dependent, 0.0)]
    return shares[0] / sum(shares)
