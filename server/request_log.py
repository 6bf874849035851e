"""One line of JSON a request: what was asked of whom, how it went, and how long it took.

Never what was said: no prompt, no answer, no key.
"""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from server.jobs import Job

QUIET_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""Asked by machines every few seconds: not worth a line."""

_log = logging.getLogger("stride.request")


def log_request(scope: Mapping[str, Any], status: int, seconds: float) -> None:
    """Write the line of a request that is over; ``status`` is that of its headers, 0 without."""
    if scope["path"] in QUIET_PATHS or not _log.isEnabledFor(logging.INFO):
        return
    state = scope["state"]
    line = {
        "request_id": state["request_id"],
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "seconds": round(seconds, 4),
        **(_of_job(state["job"]) if "job" in state else {}),
    }
    _log.info("%s", msgspec.json.encode(line).decode())


def _of_job(job: Job) -> dict[str, Any]:
    tally, choice = job.tally, job.answered_by
    first = tally.first_token_seconds
    return {
        "id": job.id,
        "model": job.model,
        "strategy": choice.strategy,
        "cause": choice.cause,
        "reason": choice.reason,
        "fallback": tally.fallback_reason or None,
        "finish_reason": tally.finish_reason,
        "prompt_tokens": tally.prompt_tokens,
        "cached_tokens": tally.cached_tokens,
        "completion_tokens": tally.completion_tokens,
        "model_steps": tally.steps,
        "steps_saved": tally.steps_saved,
        "drafted_tokens": tally.drafted,
        "accepted_tokens": tally.accepted,
        "first_token_seconds": None if first is None else round(first, 4),
    }
