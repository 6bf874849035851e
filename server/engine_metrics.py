"""The engine's state as gauges: read when Prometheus asks, so that they cannot go stale."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from decoding import strategies
from decoding.report import Cost
from server.engine_client import EngineClient


class EngineCollector(Collector):
    """Gauges of one engine."""

    def __init__(self, engine: EngineClient, model: str, version: str) -> None:
        self._engine = engine
        self._model = model
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Read the engine's state."""
        load, engine = self._engine.load, self._engine.info
        yield _gauge("requests_running", "Requests being answered", load.running)
        yield _gauge("requests_waiting", "Requests waiting for the engine", load.waiting)
        yield _gauge("kv_cache_usage_ratio", "Share of the KV cache in use", load.cache_usage)
        yield _gauge("ready", "Whether the engine is loaded and makes progress", self._engine.ready)
        yield _gauge(
            "bit_exact",
            "Whether answers are bit for bit those of plain decoding on this machine",
            engine is not None and engine.bit_exact,
        )
        yield self._build()
        if engine is not None and engine.cost is not None:
            yield from _cost(engine.cost)

    def _build(self) -> Metric:
        labels = {
            "version": self._version,
            "torch": _torch_version(),
            "strategies": ",".join(strategies.names()),
            "model": self._model,
        }
        build = GaugeMetricFamily("stride_build_info", "What runs here", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        return build


def _cost(cost: Cost) -> Iterator[Metric]:
    by_rows = GaugeMetricFamily(
        "stride_forward_cost_seconds",
        "Predicted time of a forward of so many tokens, nothing cached",
        labels=["tokens"],
    )
    for rows, seconds in cost.by_rows.items():
        by_rows.add_metric([str(rows)], seconds)
    yield by_rows
    yield _gauge(
        "forward_cost_seconds_per_key", "Predicted time of reading a cached key", cost.per_key
    )
    yield _gauge(
        "forward_cost_seconds_per_pair",
        "Predicted time of a pair of a token and a key it sees",
        cost.per_pair,
    )
    if cost.median_error is not None:
        yield _gauge(
            "forward_cost_median_error_ratio",
            "Median relative error of the last predictions of a forward's time",
            cost.median_error,
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"stride_{name}", text, value=float(value))


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "none"
