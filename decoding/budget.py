"""How much each sequence may draft in a step: what a verified token is worth against its price."""

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from decoding.cost import CostModel, Floats, Integers
from decoding.draft import Draft
from decoding.request import Decision
from decoding.tree import LEAST_CHANCE

_REMEMBERED = 0.99  # of what was expected and accepted, with every node verified
_PRIOR_WEIGHT = 4.0  # accepted nodes that the strategies' own estimates count for
_LEAST_CORRECTION, _MOST_CORRECTION = 0.25, 1.25  # what is never drafted is never seen to improve
_BOUNDS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # between estimates that are corrected apart

_Kind = tuple[str, int]  # a source, and how high its estimates are


class Wish(NamedTuple):
    """What a sequence would draft if it were free, behind ``context`` tokens of its own."""

    draft: Draft
    context: int


class Budget:
    """Chooses the nodes that make the whole batch fastest: most expected tokens a second.

    A node is worth its chance, corrected by how such estimates of its source have turned out, and
    costs what the measured curve says the forward takes longer. Taken in the order of their worth,
    nodes are added as long as the rate rises; where no node raises it, nothing is drafted.
    ``least_chance`` is what makes it worthwhile to propose a node at all in the next step.
    """

    def __init__(self, cost: CostModel) -> None:
        self._cost = cost
        self.least_chance = LEAST_CHANCE
        self._expected: defaultdict[_Kind, float] = defaultdict(float)
        self._accepted: defaultdict[_Kind, float] = defaultdict(float)

    def share(self, wishes: Sequence[Wish], most: int) -> tuple[list[Draft], Decision]:
        """What is drafted of each wish (one at least), at most so many nodes together."""
        chances = [self._chances(wish.draft) for wish in wishes]
        flat = np.array([chance for each in chances for chance in each])
        order = np.argsort(-flat, kind="stable")[: max(0, most)]
        owners = np.repeat(np.arange(len(wishes)), [len(each) for each in chances])
        decision = self._decide(wishes, flat[order], owners[order])
        chosen = np.zeros(flat.size, bool)
        chosen[order[: decision.granted]] = True
        ends = np.cumsum([len(each) for each in chances])[:-1]
        parts = np.split(chosen, ends)
        granted = [
            wish.draft.only(np.flatnonzero(part).tolist())
            for wish, part in zip(wishes, parts, strict=True)
        ]
        return granted, decision

    def _decide(self, wishes: Sequence[Wish], chances: Floats, owners: Integers) -> Decision:
        """How many of the nodes, most likely ones first, give the highest rate."""
        contexts = np.array([wish.context for wish in wishes])
        added = np.arange(len(chances) + 1)
        seconds = self._cost.seconds_of(
            rows=len(wishes) + added,
            keys=contexts.sum() + added,
            pairs=contexts.sum() + np.concatenate([[0], np.cumsum(contexts[owners])]),
        )
        expected = len(wishes) + np.concatenate([[0.0], np.cumsum(chances)])
        count = int(np.argmax(expected / seconds))
        self._set_least_chance(chances[count:])
        return Decision(
            sequences=len(wishes),
            context_tokens=int(contexts.sum()),
            proposed=sum(len(wish.draft.tokens) for wish in wishes),
            granted=count,
            expected_tokens=float(expected[count]),
            plain_seconds=float(seconds[0]),
            seconds=float(seconds[count]),
            least_chance=self.least_chance,
        )

    def _set_least_chance(self, refused: Floats) -> None:
        """What has half the chance of the likeliest refused node need not be proposed next time."""
        price = float(refused[0]) if refused.size else self.least_chance
        self.least_chance = max(LEAST_CHANCE, price / 2)

    def _chances(self, draft: Draft) -> list[float]:
        """The estimates, corrected; a node never counts for more than its parent."""
        if not draft.chances:
            return [1.0] * len(draft.tokens)
        corrected: list[float] = []
        for node, parent in enumerate(draft.parents):
            chance = draft.chances[node]
            if draft.sources and draft.sources[node]:
                chance *= self.correction(draft.sources[node], chance)
            corrected.append(min(chance, 1.0 if parent < 0 else corrected[parent]))
        return corrected

    def correction(self, source: str, chance: float) -> float:
        """How often such estimates of this source were right, divided by how often expected."""
        kind = _kind(source, chance)
        ratio = (self._accepted[kind] + _PRIOR_WEIGHT) / (self._expected[kind] + _PRIOR_WEIGHT)
        return min(max(ratio, _LEAST_CORRECTION), _MOST_CORRECTION)

    def corrections(self) -> dict[str, float]:
        """For each source, whatever its estimates: how often right, divided by how often expected.

        Here nothing is limited.
        """
        sums: dict[str, tuple[float, float]] = {}
        for (source, level), expected in self._expected.items():
            before = sums.get(source, (0.0, 0.0))
            sums[source] = before[0] + self._accepted[source, level], before[1] + expected
        return {
            source: accepted / expected for source, (accepted, expected) in sums.items() if expected
        }

    def learn(self, draft: Draft, accepted: Iterable[int]) -> None:
        """Compare what was expected of a verified draft with what was accepted of it."""
        kept = set(accepted)
        for node, (chance, source) in enumerate(zip(draft.chances, draft.sources, strict=False)):
            if not source:
                continue
            kind = _kind(source, chance)
            self._expected[kind] = self._expected[kind] * _REMEMBERED + chance
            self._accepted[kind] = self._accepted[kind] * _REMEMBERED + (node in kept)


def _kind(source: str, chance: float) -> _Kind:
    return source, bisect(_BOUNDS, chance)
