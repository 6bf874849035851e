"""Who drafts how much: strategies are asked, the budget grants, the governor lets rest."""

from collections.abc import Collection
from itertools import compress
from math import inf
from time import perf_counter

from decoding.budget import Budget, Wish
from decoding.draft import NO_DRAFT, Draft
from decoding.governor import Governor
from decoding.report import Drafting
from decoding.request import Decision
from decoding.sequence import Sequence

_MANY = 8  # sequences that draft together: among so many, asking all of them every time is dear
_SHORTEST_PAUSE = 2  # steps in which one is not asked that was granted nothing; twice as many next
_LONGEST_PAUSE_OF_MANY = 0.5  # for each sequence there is: the more there are, the dearer is asking


class Proposer:
    """Turns what strategies propose into what a step verifies, and learns from what came of it.

    Without a budget all that is proposed is granted, without a governor nothing ever rests.
    ``most`` is the number of nodes that one step may have.
    """

    def __init__(self, budget: Budget | None, governor: Governor | None, most: int) -> None:
        self._budget = budget
        self._governor = governor
        self._most = most
        # Of the last step:
        self.is_drafting = True
        self._plain_steps = 1.0  # that it took
        self.decisions: list[Decision] = []
        self.seconds = 0.0

    # --- before the forward ---

    def begin(self, running: int) -> None:
        """Begin a step in which so many sequences go on."""
        self.decisions, self.seconds, self._plain_steps = [], 0.0, 1.0
        self.is_drafting = self._governor is None or self._governor.allows(max(1, running))

    def drafts(self, sequences: list[Sequence]) -> dict[Sequence, Draft]:
        """What those draft that may reach their end: all they would, or what is worth its price."""
        for seq in sequences:
            seq.decision = None
        ready = [seq for seq in sequences if seq.num_uncomputed <= self._most]
        if len(ready) > 1 and any(seq.account.is_low for seq in ready):
            self.is_drafting = False
        if not self.is_drafting:
            return {}
        if all(seq.pause or not seq.drafts for seq in ready):
            _let_pass(ready)
            return {}
        started = perf_counter()
        drafts = self._asked(ready)
        seconds = perf_counter() - started
        self.seconds += seconds
        if self._budget is not None:
            self._plain_steps += _extra_steps(self.decisions[-1], seconds)
        return dict(zip(ready, drafts, strict=True))

    def _asked(self, sequences: list[Sequence]) -> list[Draft]:
        """What those are granted that are to be asked now; the others nothing."""
        asked = [not seq.pause for seq in sequences]
        drafts = self._granted(sequences, list(map(self._wished, sequences)))
        if len(sequences) >= _MANY:
            for seq, draft in zip(compress(sequences, asked), compress(drafts, asked), strict=True):
                _space_out(seq, draft, int(_LONGEST_PAUSE_OF_MANY * len(sequences)))
        return drafts

    def _wished(self, seq: Sequence) -> Draft:
        """What it would draft, if it is to be asked now."""
        if seq.pause:
            seq.pause -= 1
            return NO_DRAFT
        if self._budget is not None:
            seq.least_chance = self._budget.least_chance
        # One token is emitted beside the accepted ones, so guess at most to the one before.
        return seq.draft().clipped(depth=seq.num_remaining - 1, nodes=self._most)

    def _granted(self, sequences: list[Sequence], wished: list[Draft]) -> list[Draft]:
        if self._budget is None:
            return wished
        contexts = [len(seq.tokens) for seq in sequences]
        is_alone = len(sequences) == 1
        balances = [inf if is_alone else seq.account.balance for seq in sequences]
        wishes = list(map(Wish, wished, contexts, balances))
        granted, decision = self._budget.share(wishes, self._most)
        self.decisions.append(decision)
        for seq in sequences:
            seq.decision = decision
        return granted

    # --- after it ---

    def learn(self, seq: Sequence, draft: Draft, accepted: Collection[int]) -> None:
        """Take note of the nodes of its draft that were accepted."""
        seq.account.add(1 + len(accepted), self._plain_steps)
        if self._budget is not None:
            self._budget.learn(draft, accepted)

    def observe(self, sequences: int, tokens: int, seconds: float) -> None:
        """Take note of a step in which so many sequences went on, and nobody read a prompt."""
        if self._governor is not None:
            self._governor.observe(
                sequences, drafting=self.is_drafting, tokens=tokens, seconds=seconds
            )

    def report(self) -> Drafting:
        """What has been learned about drafts."""
        return Drafting(
            corrections=self._budget.corrections() if self._budget else {},
            paces=self._governor.paces() if self._governor else [],
        )


def _let_pass(sequences: list[Sequence]) -> None:
    """A step of their pauses."""
    for seq in sequences:
        seq.pause = max(0, seq.pause - 1)


def _space_out(seq: Sequence, granted: Draft, longest: int) -> None:
    """Ask one less and less often that is granted nothing."""
    if granted.tokens:
        seq.fruitless = 0
        return
    seq.pause = max(seq.pause, min(_SHORTEST_PAUSE << seq.fruitless, longest))
    seq.fruitless = min(seq.fruitless + 1, longest)


def _extra_steps(decision: Decision, guessing: float) -> float:
    """How many plain steps the drafts and ``guessing`` them, in seconds, take beside one."""
    if not decision.plain_seconds:
        return 0.0
    return (decision.seconds + guessing) / decision.plain_seconds - 1
