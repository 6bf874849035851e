"""What `/metrics` shows of the calls to the upstream, beside what it shows of requests."""

from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.metrics import REQUEST_BUCKETS, Metrics, stride_version

OUTCOMES = ("unreachable", "timeout", "cancelled")
"""What a call came to that has no status."""


class CallMetrics:
    """Counts calls. Labels are statuses of HTTP, or one of the outcomes above."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._calls = Counter(
            "stride_upstream_requests_total",
            "Calls to the upstream by what came of them",
            ["status"],
            registry=registry,
        )
        self._retries = Counter(
            "stride_upstream_retries_total", "Calls that were tried again", registry=registry
        )
        self._duration = Histogram(
            "stride_upstream_request_duration_seconds",
            "From a call to the end of its answer",
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )

    def called(self, outcome: str) -> None:
        """Count a call that got a status, or none."""
        known = outcome in OUTCOMES or (outcome.isdecimal() and 100 <= int(outcome) <= 599)
        self._calls.labels(outcome if known else "other").inc()

    def retried(self) -> None:
        """Count another try."""
        self._retries.inc()

    def ended(self, seconds: float) -> None:
        """Record how long a call took."""
        self._duration.observe(seconds)


class StateCollector(Collector):
    """Gauges of a server without an engine: what runs, and how much of it."""

    def __init__(self, model: str, running: Callable[[], int], ready: Callable[[], bool]) -> None:
        self._model = model
        self._running = running
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        """Read the state; nobody is called for it."""
        yield GaugeMetricFamily(
            "stride_requests_running", "Requests being answered", value=self._running()
        )
        yield GaugeMetricFamily(
            "stride_ready", "Whether the upstream answered lately", value=float(self._ready())
        )
        labels = {"version": stride_version(), "model": self._model}
        build = GaugeMetricFamily("stride_build_info", "What runs here", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build
