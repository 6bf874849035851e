"""A client that leaves ends its work in the engine at once, whatever the work was."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import ExitStack

import pytest
from asking import PATHS, Endpoint, body
from fakes import FakeEngine, hanging
from fastapi import FastAPI
from starlette.types import Message

from decoding.request import Output, Request
from server.responses import EventStream

Metric = Callable[..., float]


class Connection:
    """One request over raw ASGI, so that the client can leave at any moment."""

    def __init__(self, app: FastAPI, endpoint: Endpoint, **fields: object) -> None:
        self._app = app
        self._path = PATHS[endpoint]
        self._content = json.dumps(body(endpoint, **fields)).encode()
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": self._content})

    def leave(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def serve(self) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", b"application/json")],
            "client": None,
            "server": ("test", 80),
        }
        await self._app(scope, self._inbox.get, self.sent.put)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize(
    ("texts", "streamed", "phase"),
    [
        ((), False, "queued"),
        ((), True, "queued"),
        (("a",), False, "decode"),
        (("a", "b"), True, "decode"),
    ],
)
async def test_leaving_ends_the_work(
    app: FastAPI,
    engine: FakeEngine,
    metric: Metric,
    endpoint: Endpoint,
    texts: tuple[str, ...],
    streamed: bool,
    phase: str,
) -> None:
    engine.script = hanging(*texts)
    connection = Connection(app, endpoint, stream=streamed)
    serving = asyncio.create_task(connection.serve())
    await engine.started.wait()
    await asyncio.sleep(0.02)
    assert engine.closed == []
    connection.leave()
    await asyncio.wait_for(serving, 1)
    assert engine.closed == [engine.request.id]
    assert metric("stride_requests_cancelled_total", phase=phase) == 1


async def test_leaving_ends_the_work_of_all_prompts(app: FastAPI, engine: FakeEngine) -> None:
    engine.script = hanging("a")
    connection = Connection(app, "completions", prompt=["a", "b", "c"], stream=True)
    serving = asyncio.create_task(connection.serve())
    while len(engine.requests) < 3:
        await asyncio.sleep(0.001)
    connection.leave()
    await asyncio.wait_for(serving, 1)
    assert sorted(engine.closed) == sorted(request.id for request in engine.requests)


async def test_leaving_while_the_socket_is_full_ends_the_work(
    app: FastAPI, engine: FakeEngine
) -> None:
    def endless(request: Request) -> Iterable[Output]:
        while True:
            yield Output(request_id=request.id, text="x", tokens=(1,), steps=1)

    engine.script = endless
    connection = Connection(app, "chat", stream=True)
    connection.sent = asyncio.Queue(maxsize=3)
    serving = asyncio.create_task(connection.serve())
    while not connection.sent.full():
        await asyncio.sleep(0.001)
    connection.leave()
    await asyncio.wait_for(serving, 1)
    assert engine.closed == [engine.request.id]


async def test_leaving_at_the_headers_ends_the_work(app: FastAPI, engine: FakeEngine) -> None:
    """The generator of events has not been started then, so closing it closes nothing else."""
    engine.script = hanging("a")
    connection = Connection(app, "chat", stream=True)
    connection.sent = asyncio.Queue(maxsize=1)
    connection.sent.put_nowait({"type": "nothing"})
    serving = asyncio.create_task(connection.serve())
    await engine.started.wait()
    await asyncio.sleep(0.02)
    connection.leave()
    await asyncio.wait_for(serving, 1)
    assert engine.closed == [engine.request.id]


async def test_leaving_while_sending_the_body_asks_nothing_of_the_engine(
    app: FastAPI, engine: FakeEngine
) -> None:
    connection = Connection(app, "chat")
    connection._inbox.get_nowait()
    connection.leave()
    await asyncio.wait_for(connection.serve(), 1)
    assert not engine.requests


async def test_leaving_after_the_answer_changes_nothing(
    app: FastAPI, engine: FakeEngine, metric: Metric
) -> None:
    connection = Connection(app, "chat", stream=True)
    await asyncio.wait_for(connection.serve(), 1)
    assert engine.closed == []
    assert (
        sum(metric("stride_requests_cancelled_total", phase=p) for p in ("queued", "decode")) == 0
    )


async def test_a_client_that_takes_nothing_counts_as_gone() -> None:
    closed: list[str] = []

    async def parts() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"data: more\n\n"
        finally:
            closed.append("source")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    held = ExitStack()
    held.callback(closed.append, "permit")
    source = parts()
    stream = EventStream(source, source=source, held=held, patience=0.05)
    await asyncio.wait_for(stream({"type": "http"}, receive, send), timeout=5)
    assert closed == ["source", "permit"]
