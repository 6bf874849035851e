"""How often a kind of guess is right: counted at every token, drafted or not. No torch."""

from collections import defaultdict
from collections.abc import Hashable
from typing import Self


class Confidence:
    """The chance that a guess is right, by its kind; what was lately seen counts most.

    ``prior_weight`` is the number of tokens that a prior counts for, ``decay`` what is left of a
    count after another token. What is learned goes to ``general`` too, where there is one, and its
    chances are the priors.
    """

    def __init__(
        self, general: Self | None = None, *, prior_weight: float = 2.0, decay: float = 0.95
    ) -> None:
        self._general = general
        self._prior_weight, self._decay = prior_weight, decay
        self._right: defaultdict[Hashable, float] = defaultdict(float)
        self._seen: defaultdict[Hashable, float] = defaultdict(float)

    def chance(self, kind: Hashable, prior: float) -> float:
        """The chance of a guess of this kind; ``prior`` as long as none was seen."""
        if self._general is not None:
            prior = self._general.chance(kind, prior)
        right = self._right[kind] + self._prior_weight * prior
        return right / (self._seen[kind] + self._prior_weight)

    def learn(self, kind: Hashable, is_right: bool) -> None:
        """Count one guess."""
        self._right[kind] = self._right[kind] * self._decay + is_right
        self._seen[kind] = self._seen[kind] * self._decay + 1
        if self._general is not None:
            self._general.learn(kind, is_right)
