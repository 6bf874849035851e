"""Whether a body goes on as it is or is answered by skeleton: what the raw body asks for."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from decoding.request import OptionValue
from server.engine_client import Load
from server.errors import invalid, shorten
from server.scheduler import (
    AUTO,
    BUDGET,
    LOSSLESS,
    Choice,
    Known,
    Policy,
    asked_for,
    check,
    in_points,
    strategy_of,
)

Endpoint = Literal["chat", "completions"]
Raw = Mapping[str, Any]

PASSTHROUGH, SKELETON = "passthrough", "skeleton"
STRATEGIES = (PASSTHROUGH, SKELETON)

# What means the same for every part of an answer as for the whole: each call has it.
_HARMLESS_TO_PARTS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p"),
        *("presence_penalty", "frequency_penalty", "repetition_penalty"),
        *("user", "metadata", "store", "service_tier", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_retention", "cache_salt"),
        *("reasoning_effort", "verbosity", "chat_template_kwargs"),
        *("documents", "documents_in_prompt"),
    }
)
# With these a client expects the answer that it would get anywhere else.
_EXACT = frozenset({"seed", "logit_bias"})
CARRIED = _HARMLESS_TO_PARTS | _EXACT
# What is said to us, and goes no further.
KEPT = frozenset({"decoding", "deadline"})
# What is said of the whole answer, and kept for it here.
_OF_THE_WHOLE = KEPT | {
    *("model", "messages", "stream", "stream_options"),
    *("max_tokens", "max_completion_tokens", "stop"),
}
_HARMLESS: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "stop": ([], ""),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "stop_token_ids": ([],),
    "min_tokens": (0,),
    "ignore_eos": (False,),
}


def chosen(raw: Raw, endpoint: Endpoint, load: Load, policy: Policy) -> Choice:
    """Choose as without an upstream, with passthrough in place of plain decoding.

    Raises:
        ApiError: what the body's ``decoding`` asks for does not exist or cannot be done.
    """
    decoding = _decoding(raw)
    strategy = strategy_of(decoding)
    _check(decoding, raw, endpoint, policy)
    if strategy == PASSTHROUGH:
        return asked_for(decoding, policy)
    pinned_by = next(_pinning(raw), "") or (LOSSLESS if decoding.get(LOSSLESS) else "")
    plain = Choice(PASSTHROUGH, {}, "open", _why_plain(pinned_by))
    if strategy == SKELETON:
        return asked_for(decoding, policy)._replace(fallback=plain)
    if endpoint == "completions":
        return plain
    points = in_points(_known(raw, pinned_by), load, policy)
    return points._replace(fallback=plain) if points else plain


def question_in(raw: Raw) -> str:
    """The last thing the user wrote, as far as it is text."""
    asked = (text_of(each.get("content")) for each in _said_by(raw, "user"))
    return next(asked, None) or ""


def text_of(content: object) -> str | None:
    """A message's content, a text or parts of one; None if it is anything else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    found = [part.get("text") if isinstance(part, dict) else None for part in content]
    texts = [text for text in found if isinstance(text, str)]
    return "".join(texts) if len(texts) == len(found) else None


def _said_by(raw: Raw, role: str) -> Iterator[Raw]:
    """The messages of a role, the last one first."""
    messages = raw.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == role:
            yield message


def answer_limit(raw: Raw) -> int | None:
    """The most tokens the answer may have, if the body says so."""
    limit = raw.get("max_completion_tokens") or raw.get("max_tokens")
    return limit if isinstance(limit, int) else None


def _decoding(raw: Raw) -> dict[str, OptionValue]:
    sent = raw.get("decoding")
    if sent is None:
        return {}
    if not isinstance(sent, dict):
        raise invalid("'decoding' must be an object", "decoding")
    given = {name: value for name, value in sent.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, bool | int | float | str):
            message = "Options of a strategy are booleans, numbers or strings"
            raise invalid(message, f"decoding.{shorten(name)}")
    return given


def _check(
    decoding: Mapping[str, OptionValue], raw: Raw, endpoint: Endpoint, policy: Policy
) -> None:
    strategy = strategy_of(decoding)
    if strategy not in (AUTO, *STRATEGIES):
        message = (
            f"Over an upstream there is no strategy '{shorten(strategy)}'; choose one of: "
            f"{', '.join([AUTO, *STRATEGIES])}"
        )
        raise invalid(message, "decoding.strategy")
    if decoding.get(BUDGET):
        raise invalid("Over an upstream nothing is drafted: there is no budget", "decoding.budget")
    if strategy == PASSTHROUGH:
        _check_no_options(decoding)
        return
    check(decoding)
    if strategy == SKELETON:
        _check_skeleton(decoding, raw, endpoint, policy)


def _check_no_options(decoding: Mapping[str, OptionValue]) -> None:
    if others := [name for name in decoding if name not in ("strategy", BUDGET, LOSSLESS)]:
        raise invalid(f"'{PASSTHROUGH}' has no options", f"decoding.{shorten(others[0])}")


def _check_skeleton(
    decoding: Mapping[str, OptionValue], raw: Raw, endpoint: Endpoint, policy: Policy
) -> None:
    if endpoint == "completions":
        raise invalid(f"Over an upstream '{SKELETON}' answers chats only", "decoding.strategy")
    if decoding.get(LOSSLESS):
        raise invalid(f"'{SKELETON}' is not lossless", f"decoding.{LOSSLESS}")
    if policy.lossless_only:
        raise invalid(f"'{SKELETON}' is not lossless: this server is", "decoding.strategy")
    if field := next(_misshapen(raw), None):
        raise invalid(f"'{field}' is not what it has to be", field)
    if field := next((each for each in _pinning(raw) if each not in _EXACT | {"stop"}), None):
        field = shorten(field)
        raise invalid(f"'{SKELETON}' writes an answer in parts: no '{field}' with it", field)


def _why_plain(pinned_by: str) -> str:
    if pinned_by:
        return f"'{shorten(pinned_by)}' asks for the upstream's own answer"
    return "nothing asks for another answer than the upstream's"


def _known(raw: Raw, pinned_by: str) -> Known:
    return Known(
        question=question_in(raw),
        has_earlier_turns=any(True for _ in _said_by(raw, "assistant")),
        has_documents=bool(raw.get("documents")),
        has_prediction=bool(raw.get("prediction")),
        pinned_by=pinned_by,
        answer_limit=answer_limit(raw),
    )


def _pinning(raw: Raw) -> Iterator[str]:
    """Fields with which an answer put together from parts is not, or may not be, what is asked."""
    for field, value in raw.items():
        if value is None or any(
            type(value) is type(each) and value == each for each in _HARMLESS.get(field, ())
        ):
            continue
        if field == "stop" or field not in _HARMLESS_TO_PARTS | _OF_THE_WHOLE:
            yield field
    yield from _misshapen(raw)
    if not _is_conversation(raw.get("messages")):
        yield "messages"


def _misshapen(raw: Raw) -> Iterator[str]:
    """Fields kept for the whole answer that nothing can be made of."""
    for field in ("max_tokens", "max_completion_tokens"):
        limit = raw.get(field)
        if limit is not None and (type(limit) is not int or limit < 1):
            yield field
    stop = raw.get("stop")
    stops = stop if isinstance(stop, list) else [stop] if stop else []
    if not all(isinstance(each, str) and each for each in stops):
        yield "stop"


def _is_conversation(messages: object) -> bool:
    """Whether these are turns without tools, with a question in text as the last one."""
    if not isinstance(messages, list) or not messages:
        return False
    roles = ("system", "developer", "user", "assistant")
    are_plain = all(
        isinstance(each, dict) and each.get("role") in roles and not each.get("tool_calls")
        for each in messages
    )
    return (
        are_plain
        and messages[-1]["role"] == "user"
        and text_of(messages[-1].get("content")) is not None
    )
