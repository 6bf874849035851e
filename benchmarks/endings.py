"""How an answer of the server ended, in words that can be counted."""

import json
from collections.abc import Mapping


def ending(status: int, headers: Mapping[str, str], body: bytes, *, is_stream: bool) -> str:
    """What became of a request; of a refusal its code, and whether it says when to come again."""
    if status == 200:
        return end_of_stream(body.decode()) if is_stream else "answered"
    return f"{status} {code_of(body)}" + (", Retry-After" if "retry-after" in headers else "")


def code_of(body: bytes) -> str:
    """The code of an error, or that it is none of OpenAI's shape."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, LookupError, TypeError):
        return "in another shape"


def end_of_stream(text: str) -> str:
    """What became of an answer whose events are these."""
    last = text.strip().rpartition("\n")[2].removeprefix("data: ")
    if last == "[DONE]":
        return "answered"
    return "error event" if last.startswith('{"error"') else "broken off"
