"""How much each sequence may draft in a step: what a verified token is worth against its price."""

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

from decoding.cost import CostModel, Work
from decoding.draft import Draft
from decoding.patience import SHARE, price_of_waiting
from decoding.request import Decision
from decoding.tree import LEAST_CHANCE

_REMEMBERED = 0.99  # of what was expected and accepted, with every node verified
_PRIOR_WEIGHT = 4.0  # accepted nodes that the strategies' own estimates count for
_LEAST_CORRECTION, _MOST_CORRECTION = 0.25, 1.25  # what is never drafted is never seen to improve
_MARGIN = 0.8  # of the price that was just found: the next one may be lower
_BOUNDS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # between estimates that are corrected apart

_Kind = tuple[str, int]  # a source, and how high its estimates are
_Node = tuple[float, int, int]  # its chance, negative for sorting; whose wish; which node of it


class Wish(NamedTuple):
    """What a sequence would draft if it were free, behind ``context`` tokens of its own.

    ``balance`` is how many tokens it can spare by waiting for others (`decoding/patience.py`).
    """

    draft: Draft
    context: int
    balance: float = inf


class Budget:
    """Chooses the nodes that make the whole batch fastest: most expected tokens a second.

    A node is worth its chance, corrected by how such estimates of its source have turned out, and
    costs what the measured curve says the forward takes longer. Taken in the order of their worth,
    nodes are added as long as the rate rises; where no node raises it, nothing is drafted. No
    sequence may wait longer than its own expected tokens and its balance are worth, and what the
    drafts add to the forward counts the more, the less the poorest can spare.
    ``least_chance`` is what makes it worthwhile to propose a node at all in the next step.
    """

    def __init__(self, cost: CostModel) -> None:
        self._cost = cost
        self.least_chance = LEAST_CHANCE
        self._expected: defaultdict[_Kind, float] = defaultdict(float)
        self._accepted: defaultdict[_Kind, float] = defaultdict(float)

    def share(self, wishes: Sequence[Wish], most: int) -> tuple[list[Draft], Decision]:
        """What is drafted of each wish (one at least), at most so many nodes together."""
        nodes = [
            (-chance, number, node)
            for number, wish in enumerate(wishes)
            for node, chance in enumerate(self._chances(wish.draft))
        ]
        nodes = sorted(nodes)[: max(0, most)]
        decision = self._decide(wishes, nodes)
        granted: list[list[int]] = [[] for _ in wishes]
        for _, number, node in nodes[: decision.granted]:
            granted[number].append(node)
        drafts = [w.draft.only(sorted(kept)) for w, kept in zip(wishes, granted, strict=True)]
        return drafts, decision

    def _decide(self, wishes: Sequence[Wish], nodes: Sequence[_Node]) -> Decision:
        """How many of the nodes, most likely ones first, give the highest rate."""
        rows = len(wishes)
        context = pairs = sum(wish.context for wish in wishes)
        plain = seconds = self._cost.seconds(Work(rows, context, pairs))
        expected = best = float(rows)
        count = 0
        spared = [1 + wish.balance for wish in wishes]  # tokens that each may be without
        price = price_of_waiting(min(spared) - 1)
        cost = plain  # seconds, those beyond the plain ones at their price
        for added, (negative, number, _) in enumerate(nodes, start=1):
            expected -= negative
            spared[number] -= negative
            pairs += wishes[number].context
            its_seconds = self._cost.seconds(Work(rows + added, context + added, pairs))
            its_cost = plain + price * (its_seconds - plain)
            if expected * cost <= best * its_cost:
                continue
            if min(spared) * plain >= SHARE * its_seconds:
                count, best, seconds, cost = added, expected, its_seconds, its_cost
        self._set_least_chance(nodes[count:])
        return Decision(
            sequences=rows,
            context_tokens=context,
            proposed=sum(len(wish.draft.tokens) for wish in wishes),
            granted=count,
            expected_tokens=best,
            plain_seconds=plain,
            seconds=seconds,
            least_chance=self.least_chance,
        )

    def _set_least_chance(self, refused: Sequence[_Node]) -> None:
        """What is less likely than what was just refused need not be proposed next time.

        Where nothing was refused, something less likely might have been worth its price, too.
        """
        chance = -refused[0][0] * _MARGIN if refused else self.least_chance / 2
        self.least_chance = max(LEAST_CHANCE, chance)

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
