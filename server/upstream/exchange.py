"""One request on its way to the upstream and back: what was asked, and what came of it."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from decoding.request import BranchCounts
from server.bodies import Branches, Fallback
from server.errors import ApiError, deadline_exceeded
from server.metrics import NONE
from server.scheduler import Choice
from server.upstream.choice import PASSTHROUGH, Endpoint
from server.upstream.faults import TIMEOUT
from server.upstream.services import Services

_FINISH_REASONS = ("stop", "length", "tool_calls", "function_call", "content_filter")


class Decoding(Struct):
    """How an answer came about, as its ``decoding`` block says it.

    ``upstream`` is the block that the upstream's own answer had.
    """

    strategy: str
    reason: str
    lossless: bool
    time_to_first_token_ms: float | None
    branches: Branches | UnsetType = UNSET
    fallback: Fallback | UnsetType = UNSET
    upstream: msgspec.Raw | UnsetType = UNSET


@dataclass(kw_only=True, eq=False)
class Exchange:
    """A checked request. Times are monotonic."""

    services: Services
    endpoint: Endpoint
    raw: dict[str, Any]
    choice: Choice
    arrived: float
    allowed: float | None = None  # seconds that the client gives it
    id: str = field(default_factory=lambda: "chatcmpl-" + secrets.token_hex(16))
    created: int = field(default_factory=lambda: int(time.time()))
    has_begun: bool = False  # whether the upstream has said anything
    first_text_at: float | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0
    finish_reason: str | None = None
    branches: BranchCounts | None = None
    fallback_reason: str | None = None

    def __post_init__(self) -> None:
        # Held for as long as the exchange is: one that nobody holds any more is over.
        self.services.exchanges.add(self)

    @property
    def model(self) -> str:
        """The name the client used."""
        return str(self.raw["model"])

    @property
    def streams(self) -> bool:
        """Whether the answer is sent while it is written."""
        return bool(self.raw.get("stream"))

    @property
    def includes_usage(self) -> bool:
        """Whether a stream is to end with the usage."""
        options = self.raw.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def deadline(self) -> float:
        """When it is given up."""
        timeout = self.services.upstream.target.timeout
        return self.arrived + min(timeout, self.allowed or timeout)

    def told(self, error: ApiError) -> ApiError:
        """The error as the client is told it: a time-out of its own making is its deadline."""
        timeout = self.services.upstream.target.timeout
        if error.code != TIMEOUT or self.allowed is None or self.allowed >= timeout:
            return error
        return deadline_exceeded(self.allowed)

    @property
    def answered_by(self) -> Choice:
        """The choice as it came out."""
        reason = self.fallback_reason
        return self.choice if reason is None else self.choice.fallen_back(reason)

    def decoding(self, upstream: msgspec.Raw | UnsetType = UNSET) -> Decoding:
        """How it was answered so far."""
        choice, seconds = self.answered_by, self._first_text_seconds
        return Decoding(
            strategy=choice.strategy,
            reason=choice.reason,
            lossless=choice.strategy == PASSTHROUGH,
            time_to_first_token_ms=None if seconds is None else round(seconds * 1000, 3),
            branches=UNSET if self.branches is None else Branches.of(self.branches),
            fallback=self._fallback,
            upstream=upstream,
        )

    @property
    def _fallback(self) -> Fallback | UnsetType:
        reason = self.fallback_reason
        return UNSET if reason is None else Fallback(1, self.answered_by.strategy, reason)

    @property
    def _first_text_seconds(self) -> float | None:
        return None if self.first_text_at is None else self.first_text_at - self.arrived

    # --- what happens to it ---

    def starts(self) -> None:
        """It was taken on."""
        self.services.metrics.observe_choice(self.choice)

    def shows_text(self) -> None:
        """There is text of the answer; only the first time counts."""
        self.has_begun = True
        if self.first_text_at is None:
            self.first_text_at = time.monotonic()
            seconds = self.first_text_at - self.arrived
            self.services.metrics.observe_first_token(self.choice.strategy, seconds, None)

    def falls_back(self, reason: str) -> None:
        """Its strategy cannot answer it."""
        self.fallback_reason = reason
        self.services.metrics.fell_back(self.choice.strategy, self.answered_by.strategy)

    def leaves(self) -> None:
        """Its client does."""
        begun = "prefill" if self.has_begun else "queued"
        self.services.metrics.left("decode" if self.first_text_at is not None else begun)
        self.ends(499)

    def ends(self, status: int) -> None:
        """It is over, with this outcome."""
        self.services.exchanges.discard(self)
        seconds, strategy = time.monotonic() - self.arrived, self.choice.strategy
        reason = self.finish_reason
        known = reason if reason is not None and reason in _FINISH_REASONS else NONE
        metrics = self.services.metrics
        metrics.observe_usage(strategy, self.prompt_tokens, self.answer_tokens)
        metrics.ended(self.endpoint, strategy, status, known, seconds)

    def facts(self) -> dict[str, str | int | None]:
        """What the log says of it: nothing of what was said."""
        return {
            "id": self.id,
            "model": self.model,
            **self.answered_by.facts(),
            "fallback": self.fallback_reason,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.answer_tokens,
        }
