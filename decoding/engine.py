"""The engine: live sequences share the model, one packed forward a step.

A step decides who computes what, runs it, and accounts for what came out. An error inside one
sequence (its strategy, its sampling, its text) ends that sequence alone.
"""

from collections.abc import Callable
from itertools import chain, count
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from decoding import strategies
from decoding.batch import Batcher, Turn
from decoding.budget import Budget
from decoding.cache import BlockPool, BlockTable
from decoding.cost import CostModel, Work
from decoding.draft import Draft, Strategy, Verdict
from decoding.experience import Experience
from decoding.forking import Forking, Words
from decoding.forks import Forks
from decoding.governor import Governor
from decoding.options import Limits
from decoding.proposer import Proposer
from decoding.recycling import CANDIDATES
from decoding.report import StepReport
from decoding.request import Explanation, Output, Request, SourceCounts
from decoding.runner import BLOCK_SIZE, Runner
from decoding.sampling import Row, choose
from decoding.sequence import Sequence, check_token_ids, failing_alone
from decoding.text import TextStream
from decoding.verify import accepted_path

_STEPS_BETWEEN_STATES = 64

News = tuple[Sequence, Output]  # whose, and what


class Engine:
    """Add requests, step, read the outputs; not thread-safe.

    ``tokenizer`` turns answers into text and finds stop strings; without one, outputs carry tokens
    only. ``eos`` are the model's end-of-sequence ids. ``cost`` predicts forwards and learns from
    them; ``before_forward`` is called with what it predicts. ``successors`` are the likeliest
    tokens behind each, as far as they are known.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        tokenizer: Tokenizer | None = None,
        eos: tuple[int, ...] = (),
        limits: Limits | None = None,
        cost: CostModel | None = None,
        governor: Governor | None = None,
        successors: NDArray[np.int32] | None = None,
    ) -> None:
        self.runner = runner
        self.cost = cost
        self.eos = eos
        self.before_forward: Callable[[float], None] = lambda seconds: None
        self.pool = BlockPool(runner.num_blocks, BLOCK_SIZE)
        limits = limits or Limits()
        budget = Budget(cost) if cost is not None else None
        self._proposer = Proposer(budget, governor, limits.step_tokens)
        self._batcher = Batcher(self.pool, limits, self._proposer)
        self._experience = Experience(runner.vocabulary_size, successors)
        self._tokenizer = tokenizer
        self._words = Words(tokenizer) if tokenizer is not None else None
        self._forks = Forks()
        self._steps = count()
        self._recycling_seconds = 0.0  # of the last step

    @property
    def context_length(self) -> int:
        """The most tokens a prompt and its answer can have together."""
        return min(self.runner.context_length, self.pool.capacity)

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._batcher.running or self._batcher.waiting or self._forks.have_news)

    def add(self, request: Request, decode: Callable[[Sequence], Strategy] | None = None) -> None:
        """Queue a request, to be decoded by the strategy it names or by ``decode``.

        Raises:
            ValueError: it can never be served as it stands: no prompt, too long, bad token ids.
            OptionError: its strategy or an option does not exist.
        """
        self._check(request)
        decode = decode or strategies.decoder(request.strategy, request.options)
        choices = [self._sequence(request, index) for index in range(request.n)]
        if request.stages:
            forkings = [self._forking(seq, decode(seq)) for seq in choices]
            waiting = [seq for forking in forkings for seq in self._forks.begin(forking)]
        else:
            waiting = choices
            for seq in choices:
                seq.start(decode)
        self._batcher.waiting.extend(waiting)

    def abort(self, request_id: str) -> None:
        """Stop working on a request; no output follows. Unknown ids are ignored."""
        self._forks.abort(request_id)
        for seq in (*self._batcher.running, *self._batcher.waiting):
            if seq.request.id == request_id:
                seq.end("abort")
        self._batcher.remove_finished()

    def step(self) -> StepReport:
        """Compute one forward's worth of work and report what came of it."""
        started = perf_counter()
        self._recycling_seconds = 0.0
        turns = self._batcher.decide()
        if turns and (logits := self._run(turns)) is not None:
            self._account(turns, logits)
        news = self._news(turns)
        seconds = perf_counter() - started
        self._govern(turns, news, seconds)
        return self._report(turns, self._told(news), seconds)

    def _check(self, request: Request) -> None:
        length = len(request.prompt) + request.stopping.max_tokens
        if not request.prompt:
            raise ValueError("the prompt is empty")
        if length > self.context_length:
            raise ValueError(
                f"prompt and answer take {length} tokens, the context holds {self.context_length}"
            )
        named = chain(request.prompt, request.stopping.stop_token_ids, request.sampling.logit_bias)
        check_token_ids(named, self.runner.vocabulary_size)

    def _sequence(
        self, request: Request, index: int = 0, asked_by: Request | None = None
    ) -> Sequence:
        table, stopping = BlockTable(self.pool, request.cache_salt), request.stopping
        text = None
        if self._tokenizer is not None:
            text = TextStream(
                self._tokenizer, request.prompt, stopping.stop, sentences=stopping.sentences
            )
        vocabulary_size = self.runner.vocabulary_size
        return Sequence(request, index, table, vocabulary_size, text, self._experience, asked_by)

    def _forking(self, seq: Sequence, strategy: Strategy) -> Forking:
        if self._words is None:
            raise ValueError("branches are written as text, and the engine has no tokenizer")
        return Forking(
            seq,
            strategy=strategy,
            words=self._words,
            new_branch=lambda request: self._sequence(request, asked_by=seq.request),
            context_length=self.context_length,
        )

    # --- run ---

    def _run(self, turns: list[Turn]) -> Tensor | None:
        """One forward; the logits of each turn's last rows, ``[sum of num_logits, vocabulary]``."""
        segments = [turn.segment() for turn in turns]
        work = Work.of(segments)
        if self.cost is not None:
            self.before_forward(self.cost.seconds(work))
        started = perf_counter()
        try:
            logits = self.runner.forward(segments)
        except Exception as error:  # nobody's fault alone: the step is lost, the engine goes on
            for turn in turns:
                turn.seq.fail(error)
            return None
        if self.cost is not None:
            self.cost.observe(work, perf_counter() - started)
        return logits

    # --- account ---

    def _account(self, turns: list[Turn], logits: Tensor) -> None:
        """Choose tokens, extend the sequences, and put accepted branches in their place."""
        values = logits.split([turn.num_logits for turn in turns])
        rows = _last_rows(turns, logits, values)
        choices = self._choose(turns, rows)
        self._recycle(turns, rows)
        moves: list[tuple[int, int]] = []
        for turn, value, chosen in zip(turns, values, choices, strict=True):
            if not turn.seq.is_finished:
                with failing_alone(turn.seq):
                    moves += self._commit(turn, value, chosen)
        if moves:
            self.runner.move(*zip(*moves, strict=True))

    def _recycle(self, turns: list[Turn], rows: Tensor) -> None:
        """Note what the rows found likely, where anybody drafts from it."""
        if not self._proposer.is_drafting or not any(turn.seq.recycles for turn in turns):
            return
        started = perf_counter()
        candidates = self.runner.computation.likeliest(rows, CANDIDATES)
        tokens = [token for turn in turns for token in turn.chosen_after]
        self._experience.successors.update(tokens, candidates)
        self._recycling_seconds = perf_counter() - started

    def _choose(self, turns: list[Turn], rows: Tensor) -> list[list[int]]:
        """For each turn the token after its last committed one and after each draft node."""
        contexts = [self._contexts(turn) for turn in turns]
        try:
            chosen = iter(choose(rows, [row for turn in contexts for row in turn]))
            return [[next(chosen) for _ in turn] for turn in contexts]
        except Exception:  # one of them is at fault: find out which
            apart = rows.split([turn.num_choices for turn in turns])
            return [_choose_alone(*each) for each in zip(turns, apart, contexts, strict=True)]

    def _contexts(self, turn: Turn) -> list[Row]:
        """What each choice of a turn depends on beside the logits: the path to its row."""
        if not turn.num_choices:
            return []
        paths: list[list[int]] = [[]]
        for token, parent in zip(turn.draft.tokens, turn.draft.parents, strict=True):
            paths.append([*paths[parent + 1], token])
        return [turn.seq.row(path, self.eos) for path in paths]

    def _commit(self, turn: Turn, logits: Tensor, chosen: list[int]) -> list[tuple[int, int]]:
        """Take over what a turn computed; returns cache slots to copy, as (source, target)."""
        seq = turn.seq
        seq.score_prompt(logits)
        seq.computed += len(turn.tokens)
        moves: list[tuple[int, int]] = []
        if chosen and seq.num_remaining:
            moves = self._accept(turn, logits[len(logits) - len(chosen) :], chosen)
        elif chosen:
            seq.end("length")  # nothing but the prompt was asked for
        seq.table.publish(seq.tokens, seq.computed)
        return moves

    def _accept(self, turn: Turn, logits: Tensor, chosen: list[int]) -> list[tuple[int, int]]:
        """Commit the accepted path and the token after it, up to where the answer ends."""
        seq, draft = turn.seq, turn.draft
        path = accepted_path(draft, chosen)
        rows = [0, *(node + 1 for node in path)]  # the row each token was chosen in
        kept = seq.extend([chosen[row] for row in rows], self.eos)
        accepted = path[:kept]
        self._proposer.learn(seq, draft, path)
        if seq.request.logprobs is not None:
            seq.score(logits[rows[:kept]], self.eos)
        _count(seq, tuple(seq.tokens[-kept:]), draft, accepted)
        seq.tell(Verdict(seq.output.tokens, len(accepted), draft, tuple(chosen)))
        base = seq.computed
        seq.computed += len(accepted)
        slots = seq.table.slots(base + len(draft.tokens)).tolist()[base:]
        return [(slots[node], slots[i]) for i, node in enumerate(accepted) if node != i]

    # --- report ---

    def _govern(self, turns: list[Turn], news: list[News], seconds: float) -> None:
        """Take note of how fast a step was, if it was one of mere decoding with strategies."""
        decodes = turns and all(len(turn.tokens) == 1 for turn in turns)
        if decodes and any(turn.seq.drafts for turn in turns):
            tokens = sum(len(output.tokens) for _, output in news)
            self._proposer.observe(len(turns), tokens, seconds)

    def _news(self, turns: list[Turn]) -> list[News]:
        """The news of the sequences that chose a token or ended; the ended ones leave."""
        finished = self._batcher.remove_finished()
        chose = [t.seq for t in turns if t.seq.output.tokens and not t.seq.is_finished]
        return [(seq, seq.take_output()) for seq in (*chose, *finished)]

    def _told(self, news: list[News]) -> list[Output]:
        """What users see of the news: those of branches are part of their request's."""
        outputs, ready = self._forks.take(news)
        self._batcher.waiting.extend(ready)
        self._batcher.remove_finished()  # branches that nobody needs any more
        return outputs

    def _report(self, turns: list[Turn], outputs: list[Output], seconds: float) -> StepReport:
        tells_all = next(self._steps) % _STEPS_BETWEEN_STATES == 0
        return StepReport(
            outputs=outputs,
            running=len(self._batcher.running),
            waiting=len(self._batcher.waiting),
            cache_usage=self.pool.usage,
            rows=sum(turn.num_rows for turn in turns),
            sequences=len(turns),
            seconds=seconds,
            prefix_queries=self._batcher.prefix_queries,
            prefix_hits=self._batcher.prefix_hits,
            preemptions=self._batcher.preemptions,
            draft_seconds=self._proposer.seconds + self._recycling_seconds,
            is_resting=not self._proposer.is_drafting and any(turn.seq.drafts for turn in turns),
            decisions=self._proposer.decisions,
            cost=self.cost.report() if self.cost and tells_all else None,
            drafting=self._proposer.report() if tells_all else None,
        )


def _last_rows(turns: list[Turn], logits: Tensor, values: tuple[Tensor, ...]) -> Tensor:
    """The rows whose next token is chosen, ``[sum of num_choices, vocabulary]``."""
    if all(turn.num_logits == turn.num_choices for turn in turns):
        return logits  # no copy of what is often megabytes
    wanted = zip(turns, values, strict=True)
    return torch.cat([value[len(value) - turn.num_choices :] for turn, value in wanted])


def _choose_alone(turn: Turn, rows: Tensor, contexts: list[Row]) -> list[int]:
    with failing_alone(turn.seq):
        return choose(rows, contexts)
    return []


def _count(seq: Sequence, tokens: tuple[int, ...], draft: Draft, accepted: list[int]) -> None:
    output = seq.output
    output.tokens = tokens
    output.steps = 1
    output.drafted = len(draft.tokens)
    output.accepted = len(accepted)
    output.accepted_runs = (len(accepted),) if draft.tokens else ()
    kept = draft.by_source(accepted)
    if seq.request.explains_drafts:
        output.explanation = Explanation(
            proposed=seq.proposed,
            granted=len(draft.tokens),
            accepted=len(accepted),
            decision=seq.decision,
        )
    # What has no source of its own is the strategy's.
    output.sources = {
        source or seq.request.strategy: SourceCounts(1, drafted, kept[source])
        for source, drafted in draft.by_source(range(len(draft.tokens))).items()
    }
