"""Our metrics under vLLM's names, for dashboards that were made for it."""

from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

_NAMES = {
    "requests_running": "num_requests_running",
    "requests_waiting": "num_requests_waiting",
    "kv_cache_usage_ratio": "kv_cache_usage_perc",
    "prefix_cache_queries_tokens": "prefix_cache_queries",
    "prefix_cache_hits_tokens": "prefix_cache_hits",
    "prompt_tokens": "prompt_tokens",
    "generation_tokens": "generation_tokens",
    "preemptions": "num_preemptions",
    "requests": "request_success",
    "requests_rejected": "admission_rejections",
    "time_to_first_token_seconds": "time_to_first_token_seconds",
    "inter_token_latency_seconds": "inter_token_latency_seconds",
    "time_per_output_token_seconds": "request_time_per_output_token_seconds",
    "request_duration_seconds": "e2e_request_latency_seconds",
    "queue_time_seconds": "request_queue_time_seconds",
    "prefill_time_seconds": "request_prefill_time_seconds",
    "decode_time_seconds": "request_decode_time_seconds",
    "drafts": "spec_decode_num_drafts",
    "draft_tokens": "spec_decode_num_draft_tokens",
    "accepted_tokens": "spec_decode_num_accepted_tokens",
    "accepted_tokens_per_position": "spec_decode_num_accepted_tokens_per_pos",
}
_KEPT_LABELS = {
    "le": "le",
    "reason": "reason",
    "finish_reason": "finished_reason",
    "position": "position",
}
_SUCCESS = "200"


class VllmAliases(Collector):
    """Sums our samples over strategies, endpoints and statuses, and renames them."""

    def __init__(self, source: CollectorRegistry, model: str) -> None:
        self._source = source
        self._model = model

    def collect(self) -> Iterator[Metric]:
        """Rename and sum what the source has now."""
        for metric in self._source.collect():
            if alias := _NAMES.get(metric.name.removeprefix("stride_")):
                yield self._renamed(metric, f"vllm:{alias}")

    def _renamed(self, metric: Metric, alias: str) -> Metric:
        sums: defaultdict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
        for sample in metric.samples:
            name = alias + sample.name.removeprefix(metric.name)
            if not name.endswith("_created") and sample.labels.get("status", _SUCCESS) == _SUCCESS:
                sums[name, self._labels(sample.labels)] += sample.value
        renamed = Metric(alias, metric.documentation, metric.type)
        for (name, labels), value in sums.items():
            renamed.add_sample(name, dict(labels), value)
        return renamed

    def _labels(self, ours: dict[str, str]) -> tuple[tuple[str, str], ...]:
        kept = (
            (_KEPT_LABELS[name], _as_theirs(name, value))
            for name, value in ours.items()
            if name in _KEPT_LABELS
        )
        return (("model_name", self._model), ("engine", "0"), *kept)


def _as_theirs(label: str, value: str) -> str:
    """The value of one of our labels in vLLM's words, which count positions from zero."""
    return str(int(value) - 1) if label == "position" else value
