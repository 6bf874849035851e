"""How often a kind of guess is right: counted at every token, drafted or not."""

from collections import defaultdict
from collections.abc import Hashable

_PRIOR_WEIGHT = 2.0  # tokens that the prior counts for
_DECAY = 0.95  # of what was counted, with every token: about the last twenty matter


class Confidence:
    """The chance that a guess is right, by its kind; what was lately seen counts most."""

    def __init__(self) -> None:
        self._right: defaultdict[Hashable, float] = defaultdict(float)
        self._seen: defaultdict[Hashable, float] = defaultdict(float)

    def chance(self, kind: Hashable, prior: float) -> float:
        """The chance of a guess of this kind; ``prior`` as long as none was seen."""
        right = self._right[kind] + _PRIOR_WEIGHT * prior
        return right / (self._seen[kind] + _PRIOR_WEIGHT)

    def learn(self, kind: Hashable, is_right: bool) -> None:
        """Count one guess."""
        self._right[kind] = self._right[kind] * _DECAY + is_right
        self._seen[kind] = self._seen[kind] * _DECAY + 1
