"""One line of JSON a request: what was asked of whom, how it went, and how long it took.

Never what was said: no prompt, no answer, no key.
"""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

QUIET_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""Asked by machines every few seconds: not worth a line."""

_log = logging.getLogger("stride.request")


def line_of(scope: Mapping[str, Any], status: int, seconds: float) -> dict[str, Any] | None:
    """What there is to say of a request that is over; None if nobody wants to know.

    ``status`` is that of its headers, 0 without. What else is known, its state's ``facts`` say.
    """
    if scope["path"] in QUIET_PATHS:
        return None
    state = scope["state"]
    return {
        "request_id": state["request_id"],
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "seconds": round(seconds, 4),
        **(state["facts"]() if "facts" in state else {}),
    }


def write(line: Mapping[str, Any]) -> None:
    """Log the line of a request."""
    if _log.isEnabledFor(logging.INFO):
        _log.info("%s", msgspec.json.encode(line).decode())
