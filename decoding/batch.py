"""Who computes what in the next step: continuous batching over a bounded cache.

Live sequences come first, those that decode before those that still read their prompt; what is left
of the step's token budget goes to waiting ones, as long as there are free blocks for all their
tokens. When blocks run out, the latest arrival gives its own back and waits again: what it had
computed is recomputed, or still found in the prefix cache.
"""

from collections import Counter, deque
from dataclasses import dataclass
from time import perf_counter

from decoding.cache import BlockPool
from decoding.draft import NO_DRAFT, Draft
from decoding.options import Limits
from decoding.proposer import Proposer
from decoding.segment import Segment
from decoding.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Turn:
    """A sequence's part in one step: some of its uncomputed tokens and, at their end, a draft."""

    seq: Sequence
    tokens: list[int]  # committed ones, from ``seq.computed`` on
    draft: Draft
    reaches_end: bool  # the last committed token is among ``tokens``: what follows will be chosen

    @property
    def num_rows(self) -> int:
        """Rows it takes in the forward."""
        return len(self.tokens) + len(self.draft.tokens)

    @property
    def num_choices(self) -> int:
        """Rows whose next token is chosen: the last committed token's and every draft node's."""
        return 1 + len(self.draft.tokens) if self.reaches_end else 0

    @property
    def chosen_after(self) -> list[int]:
        """The tokens behind which one is chosen: the last committed one and the draft's."""
        return [self.tokens[-1], *self.draft.tokens] if self.reaches_end else []

    @property
    def num_logits(self) -> int:
        """Rows whose logits are wanted, the last ones."""
        return self.num_rows if self.seq.scores_prompt else self.num_choices

    def segment(self) -> Segment:
        """What the runner is to compute."""
        root = len(self.tokens) - 1
        return Segment(
            tokens=[*self.tokens, *self.draft.tokens],
            parents=[*range(-1, root), *(root + 1 + parent for parent in self.draft.parents)],
            start=self.seq.computed,
            slots=self.seq.table.slots(self.seq.computed + self.num_rows),
            logits_from=self.num_rows - self.num_logits,
        )


class Batcher:
    """The waiting line and the live sequences; ``decide`` reserves the blocks of every turn."""

    def __init__(self, pool: BlockPool, limits: Limits, proposer: Proposer | None = None) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = self.prefix_queries = self.prefix_hits = 0  # of the last step, in tokens
        self._pool = pool
        self._limits = limits
        self._proposer = proposer or Proposer(None, None, limits.step_tokens)

    def decide(self) -> list[Turn]:
        """The turns of the next step; sequences whose draft fails end here."""
        self.preemptions = self.prefix_queries = self.prefix_hits = 0
        turns: list[Turn] = []
        room = self._limits.step_tokens
        # Those that only need their next token go first: no prompt, however long, stalls them.
        order = sorted(self.running, key=lambda seq: seq.num_uncomputed > 1)
        self._proposer.begin(len(order))
        drafts = self._proposer.drafts(order)
        for others_left, seq in zip(range(len(order) - 1, -1, -1), order, strict=True):
            # NOTE: an earlier sequence may have preempted this one to make room for itself.
            if room and seq in self.running:
                with_draft = room - others_left - len(self.waiting)
                if turn := self._turn(seq, drafts.get(seq, NO_DRAFT), room, with_draft):
                    turns.append(turn)
                    room -= turn.num_rows
        while room and (admitted := self._admit()) is not None:
            draft = self._proposer.drafts([admitted]).get(admitted, NO_DRAFT)
            if turn := self._turn(admitted, draft, room, room - len(self.waiting)):
                turns.append(turn)
                room -= turn.num_rows
        return [turn for turn in turns if turn.seq in self.running]

    def remove_finished(self) -> list[Sequence]:
        """Take out the sequences that are over; their blocks become free."""
        finished = [seq for seq in (*self.running, *self.waiting) if seq.is_finished]
        for seq in finished:
            seq.close()
        self.running = [seq for seq in self.running if not seq.is_finished]
        self.waiting = deque(seq for seq in self.waiting if not seq.is_finished)
        return finished

    def _turn(self, seq: Sequence, draft: Draft, room: int, with_draft: int) -> Turn | None:
        """What it computes in so many rows; together with a draft only in so many."""
        if seq.is_finished:  # drafting failed
            return None
        tokens = seq.tokens[seq.computed : seq.computed + room]
        length = seq.computed + len(tokens)
        reaches_end = length == len(seq.tokens)
        nodes = max(0, with_draft - len(tokens)) if reaches_end else 0
        draft = draft.only(range(min(nodes, len(draft.tokens))))
        if not seq.table.reserve(length + len(draft.tokens)):
            draft = NO_DRAFT
            if not self._reserve_by_preempting(seq, length):
                return None
        return Turn(seq, tokens, draft, reaches_end)

    def _reserve_by_preempting(self, seq: Sequence, length: int) -> bool:
        """Take blocks from the latest arrivals; False if that came to ``seq`` itself."""
        while not seq.table.reserve(length):
            latest = self.running.pop()
            latest.preempt()
            self.waiting.appendleft(latest)
            self.preemptions += 1
            if latest is seq:
                return False
        return True

    def _admit(self) -> Sequence | None:
        """Start the next waiting sequence if there is room for all it has to compute."""
        seq = self._next_waiting() if len(self.running) < self._limits.running else None
        if seq is None:
            return None
        looks_up = self._limits.prefix_cache and not seq.scores_prompt
        if looks_up:
            seq.computed = seq.table.adopt_prefix(seq.tokens)
        if seq.table.blocks_missing(len(seq.tokens)) > self._pool.num_free:
            seq.preempt()
            return None
        self.waiting.remove(seq)
        self.running.append(seq)
        if seq.output.queue_seconds is None and not seq.num_answer:
            seq.output.queue_seconds = perf_counter() - seq.arrived
            seq.output.cached_tokens = seq.computed
        self.prefix_queries += len(seq.tokens) if looks_up else 0
        self.prefix_hits += seq.computed
        return seq

    def _next_waiting(self) -> Sequence | None:
        """The first one of those that have the fewest in progress: the tenant, then the request.

        So nobody starves the others, however much he asks for.
        """
        tenants = Counter(seq.request.tenant for seq in self.running)
        requests = Counter(id(seq.asked_by) for seq in self.running)

        def in_progress(seq: Sequence) -> tuple[int, int]:
            return tenants[seq.request.tenant], requests[id(seq.asked_by)]

        return min(filter(self._may_start, self.waiting), key=in_progress, default=None)

    def _may_start(self, seq: Sequence) -> bool:
        """Choices and branches of one request wait until the first has computed its prompt."""
        siblings = [other for other in self.running if other.asked_by is seq.asked_by]
        return not siblings or any(other.computed >= other.num_prompt for other in siblings)
