"""A light HTTP client on connections that are kept: it shares the cores with what it measures."""

import asyncio
import json
from collections.abc import Mapping
from time import perf_counter
from types import MappingProxyType
from typing import Any, NamedTuple

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ConnectionBroke(Exception):
    """The server closed the connection in the middle of an answer, or before one."""


class Reply(NamedTuple):
    """An answer as it came, and the seconds from sending the request to its last byte."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        """The body of an answer that is no stream."""
        return json.loads(self.body)


class Connection:
    """One connection, opened by the first request and again after it was closed.

    By hand, because an HTTP library takes several times as long over every request.
    """

    def __init__(self, host: str, port: int, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self._host = host
        self._port = port
        self._headers = headers
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> Reply:
        """Ask for a page."""
        return await self._exchange(_head("GET", path, self._host, self._headers))

    async def post(self, path: str, body: Mapping[str, Any] | bytes) -> Reply:
        """Send a body and wait for the whole answer, of a stream to its end."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        length = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        head = _head("POST", path, self._host, {**self._headers, **length})
        return await self._exchange(head + content)

    def close(self) -> None:
        """Leave, whatever is on its way."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _exchange(self, request: bytes) -> Reply:
        begun = perf_counter()
        try:
            reader, writer = await self._open()
            writer.write(request)
            status, fields = _read_head(await reader.readuntil(b"\r\n\r\n"))
            body = await _read_body(reader, fields)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            raise ConnectionBroke(f"{type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            self.close()  # what is left of the answer is not that of the next request
            raise
        if fields.get("connection", "").lower() == "close":
            self.close()
        return Reply(status, fields, body, perf_counter() - begun)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self._reader, self._writer


def _head(method: str, path: str, host: str, headers: Mapping[str, str]) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()


def _read_head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> bytes:
    if fields.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(fields.get("content-length", "0")))
    pieces: list[bytes] = []
    while size := int(await reader.readline(), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return b"".join(pieces)
