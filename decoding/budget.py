"""How much each sequence may draft in a step: what a verified token is worth against its price."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from decoding.cost import CostModel, Floats, Integers
from decoding.draft import Draft

_REMEMBERED = 0.995  # of what was expected and accepted of a source, with every node verified
_LEAST_CORRECTION, _MOST_CORRECTION = 0.5, 1.25  # what is never drafted would never be seen again
_PRIOR_WEIGHT = 8.0  # accepted nodes that the strategies' own estimates count for


class Wish(NamedTuple):
    """What a sequence would draft if it were free, behind ``context`` tokens of its own."""

    draft: Draft
    context: int


class Budget:
    """Chooses the nodes that make the whole batch fastest: most expected tokens a second.

    A node is worth its chance, corrected by how the estimates of its source have turned out, and
    costs what the measured curve says the forward takes longer. Taken in the order of their worth,
    nodes are added as long as the rate rises; where no node raises it, nothing is drafted.
    """

    def __init__(self, cost: CostModel) -> None:
        self._cost = cost
        self._expected: defaultdict[str, float] = defaultdict(float)
        self._accepted: defaultdict[str, float] = defaultdict(float)

    def share(self, wishes: Sequence[Wish], most: int) -> list[Draft]:
        """What is drafted of each wish, at most so many nodes together."""
        chances = [self._chances(wish.draft) for wish in wishes]
        flat = np.array([chance for each in chances for chance in each])
        if not flat.size or most <= 0:
            return [wish.draft.only(()) for wish in wishes]
        order = np.argsort(-flat, kind="stable")[:most]
        owners = np.repeat(np.arange(len(wishes)), [len(each) for each in chances])
        count = self._best_count(wishes, flat[order], owners[order])
        chosen = np.zeros(flat.size, bool)
        chosen[order[:count]] = True
        ends = np.cumsum([len(each) for each in chances])[:-1]
        parts = np.split(chosen, ends)
        return [
            wish.draft.only(np.flatnonzero(part).tolist())
            for wish, part in zip(wishes, parts, strict=True)
        ]

    def _best_count(self, wishes: Sequence[Wish], chances: Floats, owners: Integers) -> int:
        """How many of the nodes, most likely ones first, give the highest rate."""
        contexts = np.array([wish.context for wish in wishes])
        added = np.arange(len(chances) + 1)
        seconds = self._cost.seconds_of(
            rows=len(wishes) + added,
            keys=contexts.sum() + added,
            pairs=contexts.sum() + np.concatenate([[0], np.cumsum(contexts[owners])]),
        )
        expected = len(wishes) + np.concatenate([[0.0], np.cumsum(chances)])
        return int(np.argmax(expected / seconds))

    def _chances(self, draft: Draft) -> list[float]:
        """The estimates, corrected; a node never counts for more than its parent."""
        if not draft.chances:
            return [1.0] * len(draft.tokens)
        corrected: list[float] = []
        for node, parent in enumerate(draft.parents):
            correction = self.correction(draft.sources[node]) if draft.sources else 1.0
            above = 1.0 if parent < 0 else corrected[parent]
            corrected.append(min(draft.chances[node] * correction, above))
        return corrected

    def correction(self, source: str) -> float:
        """How often this source was right, divided by how often it was expected to be."""
        right = self._accepted[source] + _PRIOR_WEIGHT
        ratio = right / (self._expected[source] + _PRIOR_WEIGHT)
        return min(max(ratio, _LEAST_CORRECTION), _MOST_CORRECTION)

    def learn(self, draft: Draft, accepted: Iterable[int]) -> None:
        """Compare what was expected of a verified draft with what was accepted of it."""
        if not (draft.chances and draft.sources):
            return
        kept = set(accepted)
        for node, (chance, source) in enumerate(zip(draft.chances, draft.sources, strict=True)):
            self._expected[source] = self._expected[source] * _REMEMBERED + chance
            self._accepted[source] = self._accepted[source] * _REMEMBERED + (node in kept)
