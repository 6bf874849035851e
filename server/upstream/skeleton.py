"""A chat answered by skeleton-of-thought: what is asked of the upstream, and what comes of it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from decoding import strategies
from decoding.draft import Fork
from decoding.endings import Ending
from decoding.strategies.skeleton import OUTLINE_START
from server.bodies import (
    ChatChoice,
    ChatChunkChoice,
    ChatDelta,
    ChatMessage,
    CompletionTokensDetails,
    PromptTokensDetails,
    Usage,
)
from server.responses import DONE, encoded, event
from server.turns import conversation, stage_turns
from server.upstream.choice import CARRIED, answer_limit, question_in
from server.upstream.client import Prefill
from server.upstream.exchange import Decoding, Exchange
from server.upstream.fork import BYTES_PER_TOKEN, Forked
from server.wordings import Turn

_MOST_STOPS = 4  # that OpenAI's interface takes; all of them are looked for here anyway


class Answer(Struct, kw_only=True):
    """A completion, whole or a chunk of it."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChoice] | list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    decoding: Decoding | UnsetType = UNSET


class Limited:
    """The text of an answer up to its stop strings, and as long as it may be."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        stop = raw.get("stop") or []
        limit = answer_limit(raw)
        self._ending = Ending([stop] if isinstance(stop, str) else stop)
        self._bytes_left = None if limit is None else limit * BYTES_PER_TOKEN
        self.finish_reason: Literal["stop", "length"] | None = None

    def add(self, text: str) -> str:
        """What is to be shown now that this text has come."""
        self._ending.add(text)
        if self._ending.stopped:
            self.finish_reason = "stop"
            self._ending.flush()
        return self._within(self._ending.take())

    def end(self) -> str:
        """What is left to be shown."""
        self._ending.flush()
        shown = self._within(self._ending.take())
        self.finish_reason = self.finish_reason or "stop"
        return shown

    def _within(self, text: str) -> str:
        if self._bytes_left is None:
            return text
        content = text.encode()
        if len(content) > self._bytes_left:
            self.finish_reason = "length"
        content = content[: self._bytes_left]
        self._bytes_left -= len(content)
        return content.decode(errors="ignore")


async def in_points(exchange: Exchange) -> AsyncGenerator[bytes]:
    """The bytes of the answer: the events of a stream as points are written, or one body.

    Raises (while iterating):
        FellBack: nothing can be shown; nothing was yielded.
        ApiError: a call failed.
    """
    forked = await _forked(exchange)
    limited, whole = Limited(exchange.raw), ""
    try:
        async with aclosing(forked.texts()) as texts:
            async for text in texts:
                if shown := limited.add(text):
                    whole += shown
                    frame = _text(exchange, shown)
                    if exchange.streams:
                        yield frame
                if limited.finish_reason is not None:
                    break
    finally:
        _note(exchange, forked)
    rest = limited.end()
    exchange.finish_reason = limited.finish_reason
    frame = _text(exchange, rest)
    yield frame + _end(exchange) if exchange.streams else encoded(_whole(exchange, whole + rest))


async def _forked(exchange: Exchange) -> Forked:
    upstream, choice = exchange.services.upstream, exchange.choice
    prefill = await upstream.prefill()
    # No strategy that forks reads the sequence: all it knows is what its branches write.
    strategy = strategies.decoder(choice.strategy, choice.options)(None)  # type: ignore[arg-type]

    def new_body(fork: Fork, fields: Mapping[str, str]) -> dict[str, Any]:
        return _call_body(exchange, fork, fields, prefill)

    return Forked(upstream, strategy, new_body, OUTLINE_START, exchange.deadline)


def _call_body(
    exchange: Exchange, fork: Fork, fields: Mapping[str, str], prefill: Prefill
) -> dict[str, Any]:
    """What is sent for one branch."""
    raw = exchange.raw
    question = question_in(raw)
    wording = exchange.services.wordings.of(question)
    turns = stage_turns(wording, fork.stage, question, fields)
    if prefill == "words":
        turns = wording.told_to_begin(turns)
    messages = conversation(
        wording, raw["messages"][:-1], turns, message=_message, role=lambda each: str(each["role"])
    )
    limit = "max_completion_tokens" if raw.get("max_completion_tokens") else "max_tokens"
    tokens = min(fork.max_tokens, (answer_limit(raw) if fork.leads else None) or fork.max_tokens)
    body = {name: value for name, value in raw.items() if name in CARRIED} | {
        "model": exchange.services.upstream.target.model,
        "messages": messages,
        limit: tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    # Told in words, a model may put a line's end between what it repeats and what is new.
    if prefill != "words":
        body["stop"] = list(fork.stop[:_MOST_STOPS])
    if fork.frequency_penalty:
        body["frequency_penalty"] = max(raw.get("frequency_penalty") or 0, fork.frequency_penalty)
    if prefill == "vllm":
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def _message(turn: Turn) -> dict[str, Any]:
    role, content = turn
    return {"role": role, "content": content}


def _note(exchange: Exchange, forked: Forked) -> None:
    """What its calls took."""
    exchange.branches = forked.counts
    exchange.prompt_tokens, exchange.answer_tokens = forked.prompt_tokens, forked.answer_tokens


# --- the answer ---


def _text(exchange: Exchange, text: str) -> bytes:
    """The events of more text; the role is in front of the first."""
    is_first = exchange.first_text_at is None
    exchange.shows_text()
    role = _chunk(exchange, ChatDelta(role="assistant", content="")) if is_first else b""
    return role + (_chunk(exchange, ChatDelta(content=text)) if text else b"")


def _chunk(exchange: Exchange, delta: ChatDelta) -> bytes:
    return event(_chunk_of(exchange, [ChatChunkChoice(0, delta)]))


def _end(exchange: Exchange) -> bytes:
    """The finish reason, the usage if it was asked for, and the end mark."""
    reason = exchange.finish_reason
    last = _chunk_of(exchange, [ChatChunkChoice(0, ChatDelta(), finish_reason=reason)])
    if not exchange.includes_usage:
        last.decoding = exchange.decoding()
        return event(last) + DONE
    used = _chunk_of(exchange, [])
    used.usage, used.decoding = _usage(exchange), exchange.decoding()
    return event(last) + event(used) + DONE


def _chunk_of(exchange: Exchange, choices: list[ChatChunkChoice]) -> Answer:
    return Answer(
        id=exchange.id,
        object="chat.completion.chunk",
        created=exchange.created,
        model=exchange.model,
        choices=choices,
        usage=None if exchange.includes_usage else UNSET,
    )


def _whole(exchange: Exchange, text: str) -> Answer:
    return Answer(
        id=exchange.id,
        object="chat.completion",
        created=exchange.created,
        model=exchange.model,
        choices=[ChatChoice(0, ChatMessage(text), None, exchange.finish_reason or "stop")],
        usage=_usage(exchange),
        decoding=exchange.decoding(),
    )


def _usage(exchange: Exchange) -> Usage:
    """What the calls behind the shown points took, as the upstream reports it."""
    cached = exchange.branches.cached_tokens if exchange.branches is not None else 0
    return Usage(
        prompt_tokens=exchange.prompt_tokens,
        completion_tokens=exchange.answer_tokens,
        total_tokens=exchange.prompt_tokens + exchange.answer_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=CompletionTokensDetails(),
    )
