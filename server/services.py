"""What the routes work with, passed in by whoever builds the app."""

from dataclasses import dataclass

from server.admission import Admission
from server.engine_client import EngineClient, Load
from server.history import History
from server.limits import Limits
from server.metrics import Metrics
from server.scheduler import Policy
from server.tokenizer import Tokenizer
from server.wordings import Wordings


@dataclass(frozen=True, kw_only=True)
class Services:
    """The collaborators of the HTTP layer. The first model name is the model's own."""

    engine: EngineClient
    admission: Admission
    tokenizer: Tokenizer
    metrics: Metrics
    history: History
    policy: Policy
    wordings: Wordings
    model_names: tuple[str, ...]
    limits: Limits
    started: int  # seconds since 1970

    @property
    def load(self) -> Load:
        """How busy the engine is for a request that has its permit."""
        load, drafting = self.engine.load, self.engine.drafting
        paces = drafting.paces if drafting is not None else []
        # With this one beside those that run. One alone is never too many.
        size = load.running + 1
        pace = next((each for each in paces if 1 < each.least <= size <= each.most), None)
        rests = pace is not None and pace.is_resting and 0 < pace.drafting < pace.plain
        others = max(0, self.admission.requests - 1)
        return load._replace(requests=others, drafting_rests=rests)

    @property
    def context_limit(self) -> int | None:
        """Most tokens of a prompt with its answer; None until the engine is loaded."""
        engine = self.engine.info
        return None if engine is None else min(engine.context_length, engine.cache_tokens)

    @property
    def reason_not_ready(self) -> str | None:
        """Why no request can be answered now, or None when one can."""
        if self.engine.is_draining:
            return "draining"
        if self.engine.info is None:
            return "the model is loading"
        return None if self.engine.ready else "the engine makes no progress"
