"""An upstream on a real port that does whatever a test wants of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from asking import PATHS, Endpoint, body

from server.limits import Limits
from server.metrics import Metrics
from server.scheduler import DEFAULT_POLICY, Policy
from server.upstream.app import create_app
from server.upstream.choice import STRATEGIES
from server.upstream.client import Target, Upstream
from server.upstream.metrics import CallMetrics

MODEL, OURS = "theirs", "tiny/model"
KEY = "sk-hunter2-of-the-upstream"
PLAIN = {"decoding": {"strategy": "passthrough"}, "model": MODEL}
LIST = "What should I pack for a hike in the mountains? Give some tips."


@dataclass
class Call:
    """One request to it, and the means to answer."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    was_left: bool = False
    ended: bool = False

    @property
    def said(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def reply(
        self, content: bytes, status: int = 200, kind: str = "application/json", **headers: str
    ) -> None:
        """A whole response."""
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n"
            f"{''.join(lines)}connection: close\r\n\r\n"
        )
        await self.send(head.encode() + content)

    async def json(self, body: object, status: int = 200, **headers: str) -> None:
        await self.reply(json.dumps(body).encode(), status, **headers)

    async def begin_events(self, kind: str = "text/event-stream; charset=utf-8") -> None:
        await self.send(
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n"
            "transfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode()
        )

    async def event(self, data: str) -> None:
        content = f"data: {data}\n\n".encode()
        await self.send(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    async def end_events(self, *, mark: bool = True) -> None:
        if mark:
            await self.event("[DONE]")
        await self.send(b"0\r\n\r\n")

    async def write(
        self, *pieces: str, finish: str = "stop", usage: Sequence[int] = (7, 3)
    ) -> None:
        """A whole stream of a chat: the role, these pieces, the reason, the usage."""
        await self.begin_events()
        await self.event(chunk({"role": "assistant", "content": ""}))
        for piece in pieces:
            await self.event(chunk({"content": piece}))
        await self.event(chunk({}, finish_reason=finish))
        if self.body.get("stream_options", {}).get("include_usage"):
            await self.event(chunk(None, usage=usage_of(*usage)))
        await self.end_events()


Script = Callable[[Call], Awaitable[None]]


def usage_of(prompt: int, answer: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def chunk(delta: object, finish_reason: str | None = None, **fields: object) -> str:
    """A chunk as some upstreams write it: with spaces, and fields that nobody knows."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    choices = [] if delta is None else [choice]
    return json.dumps(
        {"id": "c-1", "created": 1, "model": MODEL, "choices": choices, "odd": 1e-7, **fields}
    )


def completion(text: str = "Hello", **fields: object) -> dict[str, Any]:
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": usage_of(7, 3),
        **fields,
    }


async def greet(call: Call) -> None:
    """Say hello, as it was asked for."""
    if call.body.get("stream"):
        await call.write("Hel", "lo")
    else:
        await call.json(completion())


@dataclass
class ScriptedUpstream:
    """Plays its script for every call, and keeps the calls."""

    script: Script = greet
    models: list[dict[str, str]] = field(default_factory=lambda: [{"id": MODEL}])
    models_status: int = 200
    looks: int = 0
    calls: list[Call] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_calls(self) -> list[Call]:
        return [call for call in self.calls if not call.ended]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            request, *lines = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            path = request.split()[1]
            call = Call(path, headers, json.loads(content or b"{}"), writer)
            if path == "/v1/models":
                self.looks += 1
                await call.json({"object": "list", "data": self.models}, self.models_status)
            else:
                self.calls.append(call)
                await self._play(call, reader)
        writer.close()

    async def _play(self, call: Call, reader: asyncio.StreamReader) -> None:
        """Until the script ends or the client leaves, whichever is first."""
        playing = asyncio.ensure_future(self.script(call))
        leaving = asyncio.ensure_future(reader.read())
        await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        call.was_left = not playing.done()
        playing.cancel()
        leaving.cancel()
        results = await asyncio.gather(playing, leaving, return_exceptions=True)
        call.ended = True
        if isinstance(results[0], Exception) and not isinstance(results[0], ConnectionError):
            raise results[0]


@asynccontextmanager
async def running(upstream: ScriptedUpstream) -> AsyncIterator[ScriptedUpstream]:
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()


class Front:
    """Our server over the scripted one."""

    def __init__(
        self,
        upstream: ScriptedUpstream,
        policy: Policy = DEFAULT_POLICY,
        *,
        api_keys: Sequence[str] = (),
        limits: Limits | None = None,
        **target: object,
    ) -> None:
        self.metrics = Metrics(MODEL, STRATEGIES)
        fields = {"base": upstream.url, "model": MODEL, "key": KEY, "retries": 2, **target}
        self.upstream = Upstream(Target(**fields), CallMetrics(self.metrics))  # type: ignore[arg-type]
        self.app = create_app(
            upstream=self.upstream,
            model_names=[OURS, MODEL],
            metrics=self.metrics,
            policy=policy,
            api_keys=api_keys,
            limits=limits,
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://test"
        )

    async def ask(self, endpoint: Endpoint = "chat", **fields: object) -> httpx.Response:
        return await self.http.post(PATHS[endpoint], json={**body(endpoint), **PLAIN, **fields})

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0
