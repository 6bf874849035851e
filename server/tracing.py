"""Traces by OpenTelemetry: one span a request, made when it is over, with the names of GenAI.

Optional: it takes what ``pip install "stride[traces]"`` installs, and an address to send to. What a
span says is what the log says: nothing of what was said. Attribute names are those of
OpenTelemetry's semantic conventions for generative AI (in development), and ``stride.*``.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from server.metrics import stride_version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

_OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}
_NAMES = {
    "model": "gen_ai.response.model",
    "id": "gen_ai.response.id",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "method": "http.request.method",
    "path": "url.path",
    "status": "http.response.status_code",
}
_OURS = frozenset({"request_id", "strategy", "cause", "reason", "fallback", "model_steps"})
_OURS |= {"steps_saved", "drafted_tokens", "accepted_tokens", "first_token_seconds"}
_LEAST_ERROR = 500
_SECONDS_TO_SEND = 3.0
_NANOSECONDS = 1_000_000_000


class TracesUnavailable(Exception):
    """What traces take is not installed."""


def start(endpoint: str | None) -> "Traces | None":
    """Traces that are sent to an address, if there is one.

    Raises:
        TracesUnavailable: OpenTelemetry is not installed.
    """
    return None if endpoint is None else Traces(exporter(endpoint), stride_version())


def exporter(endpoint: str) -> "SpanProcessor":
    """What sends spans to an address, in batches, from a thread of its own.

    Raises:
        TracesUnavailable: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        reason = 'traces take more packages: pip install "stride[traces]"'
        raise TracesUnavailable(reason) from error
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_SECONDS_TO_SEND))


class Traces:
    """Makes a span of every request that is over."""

    def __init__(self, processor: "SpanProcessor", version: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        resource = Resource.create({"service.name": "stride", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("stride", version)

    def record(self, line: Mapping[str, Any], headers: Mapping[str, str], ended: float) -> None:
        """Take a request that was over at ``ended`` (seconds since 1970), as the log tells it.

        Its span belongs to the trace that the header ``traceparent`` names, if there is one.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        operation = _OPERATIONS.get(line["path"])
        name = f"{operation} {line.get('model', '')}".rstrip() if operation else line["method"]
        span = self._tracer.start_span(
            name,
            context=TraceContextTextMapPropagator().extract(headers),
            kind=SpanKind.SERVER,
            start_time=int((ended - line["seconds"]) * _NANOSECONDS),
            attributes=dict(_attributes(line, operation)),
        )
        if not line["status"] or line["status"] >= _LEAST_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        span.end(int(ended * _NANOSECONDS))

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _attributes(line: Mapping[str, Any], operation: str | None) -> Iterator[tuple[str, Any]]:
    if operation:
        yield "gen_ai.operation.name", operation
        yield "gen_ai.provider.name", "stride"
    if reason := line.get("finish_reason"):
        yield "gen_ai.response.finish_reasons", [reason]
    if line["status"] >= _LEAST_ERROR:
        yield "error.type", str(line["status"])
    for field, value in line.items():
        name = f"stride.{field}" if field in _OURS else _NAMES.get(field)
        if name is not None and value is not None:
            yield name, value
