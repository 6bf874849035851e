"""What the routes of this mode work with."""

from dataclasses import dataclass, field
from weakref import WeakSet

from server.engine_client import Load
from server.limits import Limits
from server.metrics import Metrics
from server.scheduler import Policy
from server.upstream.client import Upstream
from server.wordings import Wordings


@dataclass(frozen=True, kw_only=True)
class Services:
    """The collaborators. The last model name is the upstream's own."""

    upstream: Upstream
    metrics: Metrics
    policy: Policy
    wordings: Wordings
    model_names: tuple[str, ...]
    limits: Limits
    started: int  # seconds since 1970
    exchanges: "WeakSet[object]" = field(default_factory=WeakSet)

    @property
    def load(self) -> Load:
        """How many requests are in progress."""
        return Load(requests=len(self.exchanges))
