"""A request whose answer branches write: prompts decoded side by side, shown in order.

The request itself holds no place in a step and no block of the cache. Its branches are sequences
like all others; those that begin alike share the blocks of what they have in common.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace
from tokenizers import Tokenizer

from decoding import strategies
from decoding.draft import Fork, Strategy, Verdict, Written
from decoding.order import InOrder
from decoding.request import (
    BranchCounts,
    FinishReason,
    Output,
    Piece,
    Request,
    SourceCounts,
    Stopping,
)
from decoding.sampling import choice_seed
from decoding.sequence import Sequence, failing_alone


class Words:
    """The tokenizer as branches need it: in what it encodes, nothing becomes a control token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = True
        self._holding: dict[str, frozenset[int]] = {}

    def filled(self, pieces: Iterable[Piece], fields: Mapping[str, str]) -> tuple[int, ...]:
        """A prompt with the texts put in that it names."""
        tokens: list[int] = []
        for piece in pieces:
            tokens += self.encode(fields[piece]) if isinstance(piece, str) else piece
        return tuple(tokens)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, none added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def holding(self, characters: str) -> frozenset[int]:
        """The ids of all tokens whose text holds one of these characters."""
        if characters not in self._holding:
            ids = list(self._tokenizer.get_vocab(with_added_tokens=True).values())
            texts = self._tokenizer.decode_batch([[each] for each in ids])
            found = (each for each, text in zip(ids, texts, strict=True) if {*characters} & {*text})
            self._holding[characters] = frozenset(found)
        return self._holding[characters]

    def beginning(self, tokens: list[int], text: str, length: int) -> tuple[list[int], str]:
        """The first ``length`` tokens and their text."""
        if len(tokens) <= length:
            return tokens, text
        return tokens[:length], str(self._tokenizer.decode(tokens[:length]))


@dataclass
class _Branch:
    """One prompt of a fork that is being decoded."""

    seq: Sequence
    text: str = ""
    finish_reason: FinishReason | None = None

    @property
    def is_finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def written(self) -> Written:
        return Written(self.text, is_whole=self.finish_reason == "stop")


@dataclass
class _Open:
    """A fork whose branches are being decoded, and the order of what they write."""

    fork: Fork
    branches: list[_Branch]
    order: InOrder

    @property
    def is_finished(self) -> bool:
        return all(branch.is_finished for branch in self.branches)


@dataclass
class Forking:
    """A request whose strategy forks, and how far it is.

    ``ready`` are the sequences that wait to be decoded: branches, or the request itself when its
    fallback answers.
    """

    seq: Sequence
    strategy: Strategy
    words: Words
    new_branch: Callable[[Request], Sequence]
    context_length: int
    ready: list[Sequence] = field(default_factory=list)
    _open: _Open | None = None
    _has_begun: bool = False  # whether a branch was computed at all
    _has_stepped: bool = False  # whether a branch went on in this step
    _steps: int = 0  # in which one did, not told yet
    _num_forks: int = 0

    @property
    def branches(self) -> list[Sequence]:
        """The branches that are being decoded."""
        open_ = self._open.branches if self._open else []
        return [branch.seq for branch in open_ if not branch.is_finished]

    def advance(self, verdict: Verdict | None) -> None:
        """Let the strategy say what comes next; None starts it."""
        try:
            # A generator is started by sending None, whatever else it takes.
            proposed = self.strategy.send(verdict)  # type: ignore[arg-type]
        except StopIteration as ended:
            self._end(ended.value)
            return
        if not isinstance(proposed, Fork):
            raise TypeError("a strategy that forks cannot draft for the request itself")
        self._fork(proposed)

    def take(self, seq: Sequence, output: Output) -> None:
        """Take over what a step added to a branch."""
        if (open_ := self._open) is None:
            return
        branch = next(each for each in open_.branches if each.seq is seq)
        self._count(branch, output)
        if output.finish_reason == "error":
            self.seq.output.error = output.error
            self.seq.end("error")
            return
        branch.text += output.text
        branch.finish_reason = output.finish_reason
        if open_.fork.leads:
            self._show_news(open_, branch, output.text)
        if open_.is_finished and not self.seq.is_finished:
            self._open = None
            self.advance(Verdict((), 0, written=tuple(each.written for each in open_.branches)))

    def step_output(self) -> Output | None:
        """What a step came to, if there is something to tell.

        Forwards that showed nothing are told with those that do.
        """
        self._steps += self._has_stepped
        self._has_stepped = False
        news = self.seq.output
        is_last = self.seq.is_finished or news.fallback is not None
        if not is_last and not news.tokens:
            return None
        news.steps = self._steps if is_last else min(self._steps, len(news.tokens))
        self._steps -= news.steps
        return self.seq.take_output()

    def abandon(self) -> None:
        """Stop all work on it."""
        for branch in self.branches:
            branch.end("abort")
        self._open = None
        with failing_alone(self.seq):
            self.strategy.close()

    # --- forks ---

    def _fork(self, fork: Fork) -> None:
        prompts = [
            self.words.filled(self.seq.request.stages[fork.stage], fields) for fields in fork.fields
        ]
        if max(map(len, prompts)) >= self.context_length:
            self.advance(Verdict((), 0))
            return
        self._num_forks += 1
        branches = [
            _Branch(self.new_branch(self._request(fork, number, prompt)))
            for number, prompt in enumerate(prompts)
        ]
        self._open = _Open(fork, branches, InOrder(fork.leads))
        for branch in branches:
            self._make_ready(branch.seq)
        if fork.leads:
            self._show(self._open.order.begin())

    def _request(self, fork: Fork, number: int, prompt: tuple[int, ...]) -> Request:
        own = self.seq.request
        sampling = replace(
            own.sampling,
            seed=choice_seed(choice_seed(own.sampling.seed, self.seq.index), number),
            frequency_penalty=max(own.sampling.frequency_penalty, fork.frequency_penalty),
            logit_bias=own.sampling.logit_bias
            | dict.fromkeys(self.words.holding(fork.without), -math.inf),
        )
        return replace(
            own,
            id=f"{own.id}/{self.seq.index}/{self._num_forks}.{number}",
            prompt=prompt,
            sampling=sampling,
            stopping=Stopping(
                max_tokens=min(fork.max_tokens, self.context_length - len(prompt)),
                min_tokens=fork.min_tokens,
                stop=fork.stop,
                sentences=fork.sentences,
            ),
            n=1,
            logprobs=None,
            prompt_logprobs=None,
            strategy=own.fallback.strategy,
            options=own.fallback.options,
            explains_drafts=False,
            stages={},
        )

    # --- the answer ---

    def _show_news(self, open_: _Open, branch: _Branch, text: str) -> None:
        """Show what is next in the answer, now that ``branch`` has added ``text``."""
        number = next(n for n, each in enumerate(open_.branches) if each is branch)
        for news in open_.order.add(number, text, is_finished=branch.is_finished):
            self._show(news)

    def _show(self, text: str) -> None:
        seq = self.seq
        if text and not seq.is_finished:
            seq.write(*self.words.beginning(self.words.encode(text), text, seq.num_remaining))

    def _end(self, reason: str | None) -> None:
        """The strategy has nothing more to say: what was shown is the answer."""
        if self.seq.num_answer:
            self.seq.end("stop")
            self.seq.write((), "")
            return
        self.seq.output.fallback = reason or "the strategy ended without an answer"
        self.seq.output.queue_seconds = None  # told when it is decoded itself
        self._make_ready(self.seq)

    def _make_ready(self, seq: Sequence) -> None:
        """Have it decoded by the fallback."""
        fallback = self.seq.request.fallback
        seq.start(strategies.decoder(fallback.strategy, fallback.options))
        self.ready.append(seq)

    def _count(self, branch: _Branch, output: Output) -> None:
        """Add what a branch did to what the request did in this step."""
        news = self.seq.output
        self._has_stepped |= bool(output.steps)
        news.drafted += output.drafted
        news.accepted += output.accepted
        news.accepted_runs += output.accepted_runs
        # A new one: outputs of a sequence must not share what is counted in it.
        news.sources = dict(news.sources)
        for source, counts in output.sources.items():
            news.sources.setdefault(source, SourceCounts()).add(counts)
        is_new = output.cached_tokens is not None
        hidden = 0 if self._open and self._open.fork.leads else len(output.tokens)
        news.branches = news.branches or BranchCounts()
        news.branches.add(
            BranchCounts(
                branches=int(is_new),
                prompt_tokens=len(branch.seq.request.prompt) if is_new else 0,
                cached_tokens=output.cached_tokens or 0,
                hidden_tokens=hidden,
            )
        )
        if not self._has_begun:
            news.queue_seconds = output.queue_seconds
            self._has_begun = True
