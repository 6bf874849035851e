"""The span that a request leaves behind, and that there is none unless one is asked for."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest
from asking import ask, body
from conftest import Build
from fakes import MODEL, FakeEngine, dying
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from server import tracing
from server.tracing import Traces

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def http(build: Build, spans: InMemorySpanExporter) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build(traces=Traces(SimpleSpanProcessor(spans), "1.2.3")))
    async with httpx.AsyncClient(transport=transport, base_url="http://stride") as http:
        yield http


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


async def test_a_request_leaves_a_span_with_the_names_of_genai(
    http: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    response = await ask(http)
    span = only(spans)
    assert span.name == f"chat {MODEL}"
    told = dict(span.attributes or {})
    usage = response.json()["usage"]
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.response.model"] == MODEL
    assert told["gen_ai.response.id"] == response.json()["id"]
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert told["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert told["gen_ai.usage.output_tokens"] == usage["completion_tokens"] == 11
    assert told["stride.request_id"] == response.headers["x-request-id"]
    assert (told["stride.strategy"], told["stride.steps_saved"]) == ("lookahead", 9)
    assert told["http.response.status_code"] == 200
    assert span.resource.attributes["service.version"] == "1.2.3"
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 <= span.end_time - span.start_time < 60e9


async def test_a_span_belongs_to_the_trace_its_caller_names(
    http: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    await http.post("/v1/chat/completions", json=body(), headers=headers)
    span = only(spans)
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT


@pytest.mark.parametrize("sent", ["", "nonsense", "00-0-0-00", "x" * 9_000])
async def test_a_broken_traceparent_begins_a_new_trace(
    http: httpx.AsyncClient, spans: InMemorySpanExporter, sent: str
) -> None:
    headers = {"traceparent": sent}
    response = await http.post("/v1/chat/completions", json=body(), headers=headers)
    assert response.status_code == 200
    assert only(spans).parent is None


async def test_an_engine_that_dies_is_an_error_and_nothing_said_is_in_the_span(
    http: httpx.AsyncClient, engine: FakeEngine, spans: InMemorySpanExporter
) -> None:
    engine.script = dying("secret answer")
    await ask(http, messages=[{"role": "user", "content": "secret question"}], user="secret")
    span = only(spans)
    assert span.status.status_code == StatusCode.ERROR
    assert "secret" not in span.to_json()


async def test_probes_leave_none(http: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    for path in ("/health", "/ready", "/metrics"):
        await http.get(path)
    assert spans.get_finished_spans() == ()


def test_spans_are_sent_to_the_endpoint_at_the_latest_when_the_server_ends() -> None:
    received: list[tuple[str, str | None]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.headers["content-type"]))
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        traces = tracing.start(f"http://127.0.0.1:{collector.server_port}/v1/traces")
        assert traces is not None
        traces.record({"path": "/x", "method": "GET", "status": 200, "seconds": 0.1}, {}, 1e9)
        traces.close()
        collector.shutdown()
    assert received == [("/v1/traces", "application/x-protobuf")]


def test_without_an_endpoint_nothing_that_could_send_is_loaded() -> None:
    code = (
        "import sys, json, server.serve; server.serve.tracing.start(None);"
        "print(json.dumps([name for name in sys.modules if 'opentelemetry.exporter' in name]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(printed.stdout) == []


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(tracing.TracesUnavailable, match="stride\\[traces\\]"):
        tracing.start("http://127.0.0.1:1/v1/traces")
