"""A client that leaves ends its work in the engine at once, whatever the work was."""

import asyncio
import json
import resource
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

import httpx
import pytest
from asking import PATHS, Endpoint, ask, body
from connection import Connection
from fakes import FakeEngine, Moment, hanging, said
from fastapi import FastAPI
from on_a_port import on_a_port
from starlette.types import Message

from decoding.request import Output, Request
from server.responses import EventStream

Metric = Callable[..., float]


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
    connection.inbox.get_nowait()
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


async def test_leaving_ends_nobody_elses_work_whatever_they_call_themselves(
    app: FastAPI, engine: FakeEngine
) -> None:
    engine.script = hanging("a")
    named = ((b"x-request-id", b"mine"),)
    both = [Connection(app, "chat", named, stream=True) for _ in range(2)]
    leaving, staying = (asyncio.create_task(each.serve()) for each in both)
    while len(engine.requests) < 2:
        await asyncio.sleep(0.001)
    both[0].leave()
    await asyncio.wait_for(leaving, 1)
    assert engine.closed == [engine.requests[0].id]
    assert not staying.done()
    both[1].leave()
    await asyncio.wait_for(staying, 1)


def posted(endpoint: Endpoint, **fields: object) -> bytes:
    """A request as it goes over a socket."""
    content = json.dumps(body(endpoint, **fields)).encode()
    head = f"POST {PATHS[endpoint]} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("leave", [reset, asyncio.StreamWriter.write_eof])
async def test_a_connection_that_is_reset_or_half_closed_ends_the_work(
    app: FastAPI,
    engine: FakeEngine,
    leave: Callable[[asyncio.StreamWriter], None],
    streamed: bool,
) -> None:
    engine.script = hanging("a")
    async with on_a_port(app) as port, asyncio.timeout(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(posted("chat", stream=streamed))
        await engine.started.wait()
        leave(writer)
        while not engine.closed:
            await asyncio.sleep(0.005)
        writer.close()


async def test_who_reads_nothing_holds_up_nobody_and_is_let_go(
    app: FastAPI, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written for it fills the buffers of its connection, and no more is asked for."""
    monkeypatch.setattr("server.routes.EventStream", partial(EventStream, patience=0.5))
    num_written = 0

    def script(request: Request) -> Iterable[Moment]:
        nonlocal num_written
        if request.stopping.max_tokens == 5:
            yield from said("Hello")(request)
            return
        while True:
            num_written += 1
            yield Output(request_id=request.id, text="x" * 10_000, tokens=(1,), steps=1)

    engine.script = script
    async with on_a_port(app) as port, asyncio.timeout(30):
        # With so small a limit the client leaves what comes in the kernel's hands.
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(posted("chat", stream=True))
        await engine.started.wait()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            while not engine.closed:
                assert (await ask(http, max_tokens=5)).status_code == 200
        writer.close()
    assert engine.closed == [engine.requests[0].id]
    assert num_written < 5000


async def test_five_hundred_connections_that_come_and_go_harm_nobody(
    app: FastAPI, engine: FakeEngine
) -> None:
    """Half of them with a request."""
    async with on_a_port(app) as port, asyncio.timeout(30):
        for _ in range(10):
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
            for number, (_, writer) in enumerate(opened):
                if number % 2:
                    writer.write(posted("chat"))
                reset(writer)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await ask(http)).status_code == 200


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as the system lets us have."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("many_files")
async def test_five_hundred_idle_connections_keep_nobody_waiting(app: FastAPI) -> None:
    async with on_a_port(app) as port, asyncio.timeout(30):
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(500)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await ask(http)).status_code == 200
        reader, writer = opened[-1]
        writer.write(posted("chat"))
        assert b" 200 " in await reader.readline()
        for _, writer in opened:
            reset(writer)
