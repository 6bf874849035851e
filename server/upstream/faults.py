"""What can go wrong with a call, as the errors that clients see. None names a key or an address."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from server.errors import RETRY_SOON, ApiError, shorten

_LONGEST_MESSAGE = 2000  # characters
_REFUSED_KEY = 401
TIMEOUT, SHUTDOWN = "upstream_timeout", "aborted"
FINAL = (TIMEOUT, SHUTDOWN)
"""Codes of errors after which no other call can help."""


@dataclass
class Fault(Exception):
    """A call that failed before its answer began; ``retry_after`` is what the upstream asks for."""

    error: ApiError
    is_transient: bool
    retry_after: float | None = None  # seconds


def timed_out(seconds: float) -> ApiError:
    """The request's time is over."""
    message = f"The upstream did not finish its answer within {seconds:g} seconds"
    return ApiError(504, message, kind="server_error", code=TIMEOUT)


def shut_down() -> ApiError:
    """This server ends."""
    message = "The server is shutting down. Please retry"
    return ApiError(503, message, kind="server_error", code=SHUTDOWN, headers=RETRY_SOON)


def broken_off() -> ApiError:
    """The answer ended in its middle."""
    return _bad_gateway("The upstream broke off its answer", "upstream_broken_off")


def unreadable(reason: str) -> ApiError:
    """The answer is none that this API knows."""
    return _bad_gateway(f"The upstream's answer cannot be read: {reason}", "upstream_unreadable")


def unreachable() -> Fault:
    """Nobody answered."""
    return Fault(_bad_gateway("The upstream cannot be reached", "upstream_unreachable"), True)


def refusal(status: int, headers: Mapping[str, str], content: bytes, key: str | None) -> Fault:
    """What an upstream said that gave no answer: with its own status, if it said it properly."""
    is_transient = status == 429 or status >= 500
    if status == _REFUSED_KEY:  # the client's own key was right: it would look for the wrong one
        message = "The upstream refused this server's key"
        return Fault(_bad_gateway(message, "upstream_refused_key"), False)
    said = _error_in(content)
    if said is None or not 400 <= status <= 599:
        error = unreadable(f"it has the status {status} and is no error of this API")
        return Fault(error, is_transient, _retry_after(headers))
    passed_on = {name: headers[name] for name in ("retry-after",) if name in headers}
    error = _reported(said, status, key, passed_on)
    return Fault(error, is_transient, _retry_after(headers))


def reported(content: bytes, key: str | None) -> ApiError:
    """An error that came in place of an answer, or in its middle."""
    said = _error_in(content)
    return unreadable("it holds an unknown error") if said is None else _reported(said, 502, key)


def _reported(
    said: Mapping[str, Any], status: int, key: str | None, headers: Mapping[str, str] | None = None
) -> ApiError:
    def text(name: str) -> str | None:
        value = said.get(name)
        value = str(value) if isinstance(value, str | int) else None
        return value.replace(key, "…") if value and key else value

    default = "server_error" if status >= 500 else "invalid_request_error"
    return ApiError(
        status,
        shorten(text("message") or "", _LONGEST_MESSAGE),
        kind=text("type") or default,
        param=text("param"),
        code=text("code"),
        headers=headers,
    )


def _error_in(content: bytes) -> Mapping[str, Any] | None:
    """The error in a body, as OpenAI writes it or, with its fields at the top, as some others."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("message"), str) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, which may also be written as a date."""
    written = headers.get("retry-after", "").strip()
    if written.isascii() and written.isdecimal():
        return float(written[:9])
    try:
        date = parsedate_to_datetime(written)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _bad_gateway(message: str, code: str) -> ApiError:
    return ApiError(502, message, kind="server_error", code=code)
