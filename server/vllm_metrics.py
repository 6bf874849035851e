"""Our metrics under vLLM's names, for dashboards that were made for it."""

from collections import defaultdict

from prometheus_client.core import Metric

_Labels = tuple[tuple[str, str], ...]

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


def alias_of(metric: Metric, model: str) -> Metric | None:
    """Our metric under vLLM's name, summed over strategies, endpoints and statuses.

    None if vLLM has no such metric.
    """
    if not (name := _NAMES.get(metric.name.removeprefix("stride_"))):
        return None
    renamed = Metric(f"vllm:{name}", metric.documentation, metric.type)
    of_all = (("model_name", model), ("engine", "0"))
    for (suffix, labels), value in _sums(metric).items():
        renamed.add_sample(renamed.name + suffix, dict(of_all + labels), value)
    return renamed


def _sums(metric: Metric) -> dict[tuple[str, _Labels], float]:
    """What samples add up to, by the end of their name and the labels that vLLM has, too."""
    sums: defaultdict[tuple[str, _Labels], float] = defaultdict(float)
    for sample in metric.samples:
        if sample.labels.get("status", _SUCCESS) == _SUCCESS:
            suffix = sample.name.removeprefix(metric.name)
            sums[suffix, _labels(sample.labels)] += sample.value
    return sums


def _labels(ours: dict[str, str]) -> _Labels:
    return tuple(
        (_KEPT_LABELS[name], _as_theirs(name, value))
        for name, value in ours.items()
        if name in _KEPT_LABELS
    )


def _as_theirs(label: str, value: str) -> str:
    """The value of one of our labels in vLLM's words, which count positions from zero."""
    return str(int(value) - 1) if label == "position" else value
