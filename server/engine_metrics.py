"""The engine's state as gauges: read when Prometheus asks, so that they cannot go stale."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from decoding import strategies
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


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"stride_{name}", text, value=float(value))


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "none"
