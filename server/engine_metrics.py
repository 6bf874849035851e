"""The engine's state as gauges: read when Prometheus asks, so that they cannot go stale."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from decoding import strategies
from decoding.report import Cost, Drafting
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
        if (drafting := self._engine.drafting) is not None:
            yield from _drafting(drafting)

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


def _drafting(drafting: Drafting) -> Iterator[Metric]:
    corrections = GaugeMetricFamily(
        "stride_draft_estimate_correction_ratio",
        "Guesses accepted, for each that its source expected to be",
        labels=["source"],
    )
    for source, ratio in drafting.corrections.items():
        corrections.add_metric([source], ratio)
    yield corrections
    pace = GaugeMetricFamily(
        "stride_decode_pace_tokens_per_second",
        "Tokens a second of whole steps with and without drafts, by size of batch",
        labels=["batch", "drafting"],
    )
    resting = GaugeMetricFamily(
        "stride_drafting_rests", "Whether drafting rests in batches of this size", labels=["batch"]
    )
    for each in drafting.paces:
        batch = f"{each.least}-{each.most}"
        pace.add_metric([batch, "yes"], each.drafting)
        pace.add_metric([batch, "no"], each.plain)
        resting.add_metric([batch], float(each.is_resting))
    yield from (pace, resting)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"stride_{name}", text, value=float(value))


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "none"
