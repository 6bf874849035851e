"""A scripted engine and a byte-level tokenizer: the server's tests need no model."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field

from facts import CONTEXT as CONTEXT
from facts import MODEL as MODEL
from facts import engine_info as engine_info
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from decoding.report import Drafting, EngineInfo
from decoding.request import (
    Explanation,
    FinishReason,
    Output,
    Request,
    SourceCounts,
    TokenLogprob,
)
from server.engine_client import EngineDied, Load

ALIAS = "default"
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{% if message.role == 'system' and not loop.first %}"
    "{{ raise_exception('System role must come first') }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 byte tokens, the merge of `h` and `e`, and three control tokens after them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)} | {"he": 256}
    backend = Tokenizer(BPE(vocabulary, [("h", "e")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True) for text in CONTROL_TOKENS])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", bos_token="<|endoftext|>"
    )
    wrapped.chat_template = CHATML
    return wrapped


Moment = Output | Exception | asyncio.Event
Script = Callable[[Request], Iterable[Moment]]


def said(
    *texts: str,
    finish: FinishReason = "stop",
    logprobs: bool = False,
    sources: dict[str, SourceCounts] | None = None,
    explanation: Explanation | None = None,
    **first: int,
) -> Script:
    """Every choice says these texts, one a step, and then finishes. A token is a byte."""

    def script(request: Request) -> Iterable[Output]:
        for number, text in enumerate(texts):
            for index in range(request.n):
                tokens = tuple(text.encode())
                yield Output(
                    request_id=request.id,
                    index=index,
                    text=text,
                    tokens=tokens,
                    logprobs=tuple(map(scored, tokens)) if logprobs else (),
                    steps=1,
                    drafted=max(0, len(tokens) - 1),
                    accepted=max(0, len(tokens) - 1),
                    accepted_runs=(len(tokens) - 1,) if len(tokens) > 1 else (),
                    sources=sources or {},
                    explanation=explanation if request.explains_drafts else None,
                    cached_tokens=first.get("cached") if number == index == 0 else None,
                    queue_seconds=0.001 if number == index == 0 else None,
                    finish_reason=finish if number == len(texts) - 1 else None,
                )

    return script


def scored(token: int) -> TokenLogprob:
    """A token at -0.5, chosen before another at minus infinity."""
    return TokenLogprob(token, -0.5, ((token, -0.5), (token + 1, float("-inf"))))


@dataclass
class FakeEngine:
    """Plays a script for every request, and records what it was asked and what was closed."""

    script: Script = field(default_factory=lambda: said("Hello", " there"))
    info: EngineInfo | None = field(default_factory=engine_info)
    ready: bool = True
    is_draining: bool = False
    load: Load = field(default_factory=Load)
    drafting: Drafting | None = None
    requests: list[Request] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def request(self) -> Request:
        return self.requests[-1]

    async def generate(self, request: Request, *, is_whole: bool = False) -> AsyncGenerator[Output]:
        self.requests.append(request)
        self.started.set()
        try:
            for moment in self.script(request):
                await asyncio.sleep(0)
                if isinstance(moment, Exception):
                    raise moment
                if isinstance(moment, asyncio.Event):
                    await moment.wait()
                else:
                    yield moment
        except (GeneratorExit, asyncio.CancelledError):
            self.closed.append(request.id)
            raise


def dying(*texts: str) -> Script:
    """The worker dies after these texts."""

    def script(request: Request) -> Iterable[Moment]:
        for text in texts:
            yield Output(request_id=request.id, text=text, tokens=(1,), steps=1)
        yield EngineDied("killed")

    return script


def failing(*texts: str) -> Script:
    """This request fails in the engine after these texts."""

    def script(request: Request) -> Iterable[Moment]:
        for text in texts:
            yield Output(request_id=request.id, text=text, tokens=(1,), steps=1)
        yield Output(request_id=request.id, finish_reason="error", error="a bad sampler")

    return script


def hanging(*texts: str) -> Script:
    """The engine says these texts and then nothing any more."""

    def script(request: Request) -> Iterable[Moment]:
        for text in texts:
            yield Output(request_id=request.id, text=text, tokens=(1,), steps=1)
        yield asyncio.Event()

    return script
