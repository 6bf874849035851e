"""A random Llama small enough for any test, a client for an engine over it, and drafters."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from decoding.cost import CostModel, Work
from decoding.draft import Draft, Strategy
from decoding.engine import Engine
from decoding.governor import Governor
from decoding.report import StepReport
from decoding.request import FinishReason, Output, Request, Sampling, Stopping, TokenLogprob
from decoding.sequence import Sequence as Live

VOCABULARY = 131
CONTEXT = 256
GREEDY = Sampling(temperature=0)
SEEDED = Sampling(temperature=1.2, top_p=0.95, seed=7)

Decode = Callable[[Live], Strategy]


def tiny_llama() -> LlamaForCausalLM:
    """The same weights every time, large enough to say different things at different places."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.25,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


class MakeEngine(Protocol):
    """Builds an engine over the tiny model; the other arguments are the fields of its limits."""

    def __call__(
        self,
        *,
        num_blocks: int = 64,
        eos: tuple[int, ...] = (),
        tokenizer: Any = None,
        cost: CostModel | None = None,
        governor: Governor | None = None,
        **limits: Any,
    ) -> Engine: ...


class FixedCost(CostModel):
    """A price list that no clock changes: what is drafted by it is the same every time."""

    def observe(self, work: Work, seconds: float) -> None:
        """Learn nothing."""


_numbers = count()


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(VOCABULARY, (length,), generator=generator).tolist())


def asking(
    prompt: Sequence[int] = prompt_of(9),
    *,
    max_tokens: int = 24,
    stopping: dict[str, Any] | None = None,
    **fields: Any,
) -> Request:
    """A request with an id of its own; greedy unless it says otherwise."""
    fields.setdefault("id", f"request-{next(_numbers)}")
    fields.setdefault("sampling", GREEDY)
    stops = Stopping(max_tokens=max_tokens, **(stopping or {}))
    return Request(prompt=tuple(prompt), stopping=stops, **fields)


@dataclass
class Answer:
    """All news of one choice, added up."""

    tokens: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    accepted_runs: tuple[int, ...] = ()
    cached_tokens: int | None = None
    queue_seconds: float | None = None
    finish_reason: FinishReason | None = None
    error: str | None = None

    def add(self, news: Output) -> None:
        assert self.finish_reason is None, "news after the end"
        self.tokens += news.tokens
        self.text += news.text
        self.logprobs += news.logprobs
        self.steps += news.steps
        self.drafted += news.drafted
        self.accepted += news.accepted
        self.accepted_runs += news.accepted_runs
        for once in ("prompt_logprobs", "cached_tokens", "queue_seconds"):
            if getattr(news, once) is not None:
                assert getattr(self, once) is None, f"{once} came twice"
                setattr(self, once, getattr(news, once))
        self.finish_reason, self.error = news.finish_reason, news.error


@dataclass
class Client:
    """Asks, steps, and keeps every answer and report."""

    engine: Engine
    answers: dict[tuple[str, int], Answer] = field(default_factory=lambda: defaultdict(Answer))
    reports: list[StepReport] = field(default_factory=list)

    def ask(self, request: Request, decode: Decode | None = None) -> Request:
        self.engine.add(request, decode)
        return request

    def step(self) -> StepReport:
        report = self.engine.step()
        self.reports.append(report)
        for news in report.outputs:
            self.answers[news.request_id, news.index].add(news)
        return report

    def finish(self) -> None:
        """Step until nothing is left to do, and see that no block stays behind."""
        for _ in range(2000):
            if not self.engine.has_work:
                break
            self.step()
        assert not self.engine.has_work, "the engine does not come to an end"
        assert self.engine.pool.num_free == self.engine.pool.num_blocks - 1

    def answer(self, request: Request, index: int = 0) -> Answer:
        return self.answers[request.id, index]


def answers(engine: Engine, *requests: Request, decode: Decode | None = None) -> list[Answer]:
    """The first choice of every request, all asked at once."""
    client = Client(engine)
    for request in requests:
        client.ask(request, decode)
    client.finish()
    return [client.answer(request) for request in requests]


# --- drafters: each knows the answer that plain decoding gives, and makes something of it ---------


def guessing(guess: Callable[[int], Draft]) -> Decode:
    """A strategy that draws its next guess from how long the answer is so far."""

    def decode(seq: Live) -> Strategy:
        while True:
            yield guess(seq.num_answer)

    return decode


def silent(seq: Live) -> Strategy:
    """A strategy that never guesses."""
    while True:
        yield Draft()


def other(token: int) -> int:
    return (token + 1) % VOCABULARY


def perfect(answer: Sequence[int], ahead: int = 4) -> Decode:
    return guessing(lambda done: Draft.chain(answer[done : done + ahead]))


def wrong(answer: Sequence[int]) -> Decode:
    return guessing(lambda done: Draft.chain([other(t) for t in answer[done : done + 4]]))


def half_right(answer: Sequence[int]) -> Decode:
    def guess(done: int) -> Draft:
        right, rest = answer[done : done + 2], answer[done + 2 : done + 5]
        return Draft.chain([*right, *map(other, rest)])

    return guessing(guess)


def sometimes(answer: Sequence[int]) -> Decode:
    """Right every third time, and silent every fourth."""

    def guess(done: int) -> Draft:
        if done % 4 == 3:
            return Draft()
        ahead = answer[done : done + 3]
        return Draft.chain(ahead if done % 3 == 0 else [*map(other, ahead)])

    return guessing(guess)


def branching(answer: Sequence[int]) -> Decode:
    """At every depth a wrong branch with a child comes before the right one."""

    def guess(done: int) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        parent = -1
        for right in answer[done : done + 4]:
            first = len(tokens)
            tokens += [other(right), right, right]
            parents += [parent, first, parent]
            parent = first + 2
        return Draft(tuple(tokens), tuple(parents))

    return guessing(guess)


def twins(answer: Sequence[int]) -> Decode:
    """Equal siblings, of which only the last has the right children."""

    def guess(done: int) -> Draft:
        ahead = answer[done : done + 3]
        if len(ahead) < 3:
            return Draft.chain(ahead)
        first, second, third = ahead
        return Draft(
            (first, first, other(second), first, second, second, third), (-1, -1, 0, -1, 3, 3, 5)
        )

    return guessing(guess)


def endless(answer: Sequence[int]) -> Decode:
    """Goes on far past the end of the answer."""
    return guessing(lambda done: Draft.chain([*answer[done:], *range(60)]))


DRAFTERS: dict[str, Callable[[Sequence[int]], Decode]] = {
    each.__name__: each
    for each in (perfect, wrong, half_right, sometimes, branching, twins, endless)
}
