"""What is counted about workers, here in the API process, so that no count ends with a worker."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, get_args

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.worker_endings import EndReason


class WorkerState(NamedTuple):
    """A worker as it is now."""

    number: int
    is_ready: bool
    seconds_since_beat: float
    start_seconds: float  # of its last start; 0 while there was none
    resident_bytes: int


class HasWorkers(Protocol):
    """Whoever knows how the workers are."""

    def states(self) -> list[WorkerState]:
        """How each worker is now."""


class WorkerMetrics:
    """Counters of what befell workers and the requests in their hands."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._restarts = Counter(
            "stride_worker_restarts_total",
            "Workers that ended and were replaced, by why they ended",
            ("worker", "reason"),
            registry=registry,
        )
        self._lost = Counter(
            "stride_in_flight_lost_total",
            "Requests that ended with an error because their worker did",
            registry=registry,
        )
        self._repeated = Counter(
            "stride_in_flight_repeated_total",
            "Requests begun again on another worker because theirs ended",
            registry=registry,
        )

    def watch(self, workers: HasWorkers) -> None:
        """Show how these workers are, read at every scrape."""
        for state in workers.states():
            for reason in get_args(EndReason):
                self._restarts.labels(str(state.number), reason)
        self._registry.register(_WorkerCollector(workers))

    def restarted(self, number: int, reason: EndReason) -> None:
        """Count a worker that has to be replaced."""
        self._restarts.labels(str(number), reason).inc()

    def lost(self) -> None:
        """Count a request that was lost with its worker."""
        self._lost.inc()

    def repeated(self) -> None:
        """Count a request that is begun again."""
        self._repeated.inc()


class _WorkerCollector(Collector):
    def __init__(self, workers: HasWorkers) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        up = _gauge("worker_up", "Whether this worker is loaded and makes progress")
        beat = _gauge("worker_last_heartbeat_seconds", "Time since the worker's loop was heard of")
        start = _gauge("worker_start_duration_seconds", "Time that its last start took")
        memory = _gauge("worker_rss_bytes", "Resident memory of the worker")
        for state in self._workers.states():
            labels = [str(state.number)]
            up.add_metric(labels, float(state.is_ready))
            beat.add_metric(labels, state.seconds_since_beat)
            start.add_metric(labels, state.start_seconds)
            memory.add_metric(labels, state.resident_bytes)
        yield from (up, beat, start, memory)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"stride_{name}", text, labels=["worker"])
