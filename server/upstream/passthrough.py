"""A request that goes on as it is: its answer comes back with our name for the model."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from server.responses import DONE, event
from server.shell import CHAT_PATH, COMPLETIONS_PATH
from server.upstream.choice import KEPT
from server.upstream.client import Call
from server.upstream.exchange import Exchange
from server.upstream.faults import broken_off, reported, unreadable

_PATHS = {"chat": CHAT_PATH, "completions": COMPLETIONS_PATH}
_NOTHING = (b"null", b'""', b"[]", b"{}")
# All values of a body but those that we look at stay the bytes that they are.
_Body = dict[str, Raw]
_encode = msgspec.json.encode


class PromptDetails(Struct):
    """Of the prompt's tokens."""

    cached_tokens: int | None = 0


class Usage(Struct):
    """What the upstream says that it used; fields that it has beside these are not ours to know."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: PromptDetails | None = None


class _Choice(Struct):
    finish_reason: str | None = None
    delta: dict[str, Raw] | None = None
    text: str | None = None

    @property
    def has_text(self) -> bool:
        """Whether there is more in it than who speaks."""
        said = (self.delta or {}).items()
        return bool(self.text) or any(n != "role" and bytes(v) not in _NOTHING for n, v in said)


async def passed_through(exchange: Exchange) -> AsyncGenerator[bytes]:
    """The bytes of the answer: the events of a stream as they come, or one body.

    Raises (while iterating):
        ApiError: the upstream gave no answer, or only the beginning of one.
    """
    upstream = exchange.services.upstream
    path, body = _PATHS[exchange.endpoint], _forwarded(exchange.raw, upstream.target.model)
    async with upstream.call(path, body, exchange.deadline) as call:
        exchange.has_begun = True
        if not exchange.streams:
            yield await _whole(exchange, call)
            return
        async with aclosing(_frames(exchange, call)) as frames:
            async for frame in frames:
                yield frame


def _forwarded(raw: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The body with the upstream's name for the model, and without what is said to us."""
    forwarded = {name: value for name, value in raw.items() if name not in KEPT}
    return forwarded | {"model": model}


async def _whole(exchange: Exchange, call: Call) -> bytes:
    body = _read(await call.whole(), exchange)
    choices = _choices(body)
    exchange.shows_text()
    exchange.finish_reason = next((choice.finish_reason for choice in choices), None)
    _take_usage(exchange, body)
    _add_decoding(exchange, body)
    return _encode(body)


async def _frames(exchange: Exchange, call: Call) -> AsyncGenerator[bytes]:
    last = _LastWord(exchange)
    async with aclosing(call.events()) as events:
        async for data in events:
            body = _read(data.replace("\n", " ").encode(), exchange)
            choices = _choices(body)
            _note(exchange, choices)
            if last.is_due(choices, has_usage=_take_usage(exchange, body)):
                _add_decoding(exchange, body)
            yield event(body)
    if exchange.finish_reason is None:
        raise broken_off()
    yield DONE


class _LastWord:
    """When a stream says how it was answered: once, with the last choice or the usage behind it."""

    def __init__(self, exchange: Exchange) -> None:
        self._unfinished = _num_choices(exchange.raw)
        self._awaits_usage = exchange.includes_usage
        self._was_due = False

    def is_due(self, choices: list[_Choice], *, has_usage: bool) -> bool:
        """Whether it is with these choices."""
        self._unfinished -= sum(choice.finish_reason is not None for choice in choices)
        is_last = self._unfinished <= 0 and (has_usage or not self._awaits_usage)
        is_due, self._was_due = is_last and not self._was_due, self._was_due or is_last
        return is_due


def _note(exchange: Exchange, choices: list[_Choice]) -> None:
    for choice in choices:
        exchange.finish_reason = choice.finish_reason or exchange.finish_reason
        if choice.has_text:
            exchange.shows_text()


def _read(content: bytes, exchange: Exchange) -> _Body:
    """The fields of a body, the client's name for the model among them."""
    try:
        body = msgspec.json.decode(content, type=_Body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable("it is no JSON object") from error
    if "error" in body and bytes(body["error"]) not in _NOTHING:
        raise reported(content, exchange.services.upstream.target.key)
    if "model" in body:
        body["model"] = Raw(_encode(exchange.model))
    return body


def _choices(body: _Body) -> list[_Choice]:
    try:
        return msgspec.json.decode(body["choices"], type=list[_Choice])
    except KeyError as error:
        raise unreadable("it has no 'choices'") from error
    except msgspec.MsgspecError as error:
        raise unreadable("its 'choices' are none of this API") from error


def _take_usage(exchange: Exchange, body: _Body) -> bool:
    """Count the usage, if there is one: a later one says it of everything before, too."""
    usage = usage_in(body)
    if usage is not None:
        exchange.prompt_tokens = usage.prompt_tokens or 0
        exchange.answer_tokens = usage.completion_tokens or 0
    return usage is not None


def usage_in(body: _Body) -> Usage | None:
    """The usage that a body reports."""
    try:
        return msgspec.json.decode(body.get("usage", Raw(b"null")), type=Usage | None)
    except msgspec.MsgspecError:
        return None


def _add_decoding(exchange: Exchange, body: _Body) -> None:
    theirs = body.get("decoding")
    block = exchange.decoding(UNSET if theirs is None else theirs)
    body["decoding"] = Raw(_encode(block))


def _num_choices(raw: Mapping[str, Any]) -> int:
    """How many answers the body asks for."""
    n, prompt = raw.get("n") or 1, raw.get("prompt")
    several = isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list)
    return (n if isinstance(n, int) else 1) * (len(prompt) if several and prompt else 1)
