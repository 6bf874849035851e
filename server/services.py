"""What the routes work with, passed in by whoever builds the app."""

from dataclasses import dataclass

from server.engine_client import EngineClient
from server.history import History
from server.limits import Limits
from server.metrics import Metrics
from server.scheduler import Policy
from server.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Services:
    """The collaborators of the HTTP layer. The first model name is the model's own."""

    engine: EngineClient
    tokenizer: Tokenizer
    metrics: Metrics
    history: History
    policy: Policy
    model_names: tuple[str, ...]
    limits: Limits
    version: str
    started: int  # seconds since 1970

    @property
    def context_limit(self) -> int | None:
        """Most tokens of a prompt with its answer; None until the engine is loaded."""
        engine = self.engine.info
        return None if engine is None else min(engine.context_length, engine.cache_tokens)

    @property
    def reason_not_ready(self) -> str | None:
        """Why no request can be answered now, or None when one can."""
        if self.engine.info is None:
            return "the model is loading"
        return None if self.engine.ready else "the engine makes no progress"
