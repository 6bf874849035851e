"""A client that keeps the time: what streams back from a server, and when."""

import asyncio
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from time import perf_counter
from typing import Any, NamedTuple

from benchmarks.processes import ContestantFailed
from benchmarks.timing import Timing

_SECONDS_TO_ANSWER = 600.0
_READ_BYTES = 1 << 16


class Address(NamedTuple):
    """Where an API is reached; ``base`` is the path that all of its paths begin with."""

    host: str
    port: int
    base: str = "/v1"
    is_encrypted: bool = False


async def stream_all(host: str, port: int, bodies: Sequence[Mapping[str, Any]]) -> list[Timing]:
    """Post all bodies at once and time what streams back.

    Raises:
        ContestantFailed: the server refuses, breaks off or takes too long.
    """
    started = perf_counter()
    async with asyncio.timeout(_SECONDS_TO_ANSWER):
        return await asyncio.gather(*(stream(host, port, body, started) for body in bodies))


async def stream(host: str, port: int, body: Mapping[str, Any], started: float) -> Timing:
    """Post one body and time what streams back."""
    return read_stream(await received(Address(host, port), "/completions", body, started))


async def received(
    address: Address, path: str, body: Mapping[str, Any], started: float
) -> list[tuple[float, bytes]]:
    """Post one body. While the clock runs chunks are only kept; they are read afterwards.

    By hand, because the client shares the cores with the server it measures: an HTTP library takes
    several times as long over every token.
    """
    host, port, base, is_encrypted = address
    reader, writer = await asyncio.open_connection(host, port, ssl=is_encrypted or None)
    try:
        writer.write(request(host, port, json.dumps(body).encode(), base + path))
        chunks: list[tuple[float, bytes]] = []
        while data := await reader.read(_READ_BYTES):
            chunks.append((perf_counter() - started, data))
    finally:
        writer.close()
    return body_of(chunks)


def request(host: str, port: int, body: bytes, path: str) -> bytes:
    """A request after whose answer the server closes the connection."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def body_of(chunks: Sequence[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """The pieces of the answer's body with the times at which they were whole.

    Raises:
        ContestantFailed: it is not a good answer.
    """
    head, _, rest = b"".join(data for _, data in chunks).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ContestantFailed((head.split(b"\r\n")[0] + b": " + rest).decode(errors="replace"))
    arrivals = list(accumulate(len(data) for _, data in chunks))
    offset = len(head) + 4
    if b"transfer-encoding: chunked" not in head.lower():
        return [(chunks[-1][0], rest)]
    pieces: list[tuple[float, bytes]] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        offset += len(size) + 2 + length + 2
        arrival = min(bisect_left(arrivals, offset), len(chunks) - 1)
        pieces.append((chunks[arrival][0], rest[:length]))
        rest = rest[length + 2 :]
    return pieces


def read_stream(chunks: Sequence[tuple[float, bytes]]) -> Timing:
    """What came when, out of the chunks of an event stream and the times of their arrival.

    Raises:
        ContestantFailed: the stream holds an error.
    """
    times: list[float] = []
    text, num_tokens = "", 0
    for seconds, event in events(chunks):
        if "error" in event:
            raise ContestantFailed(str(event["error"]))
        if piece := "".join(choice.get("text") or "" for choice in event["choices"]):
            times.append(seconds)
            text += piece
        num_tokens = (event.get("usage") or {}).get("completion_tokens", num_tokens)
    return Timing(first=times[0], last=times[-1], num_tokens=num_tokens, text=text)


def events(chunks: Sequence[tuple[float, bytes]]) -> list[tuple[float, Any]]:
    """The JSON of each event, with the time at which its last byte arrived."""
    found: list[tuple[float, Any]] = []
    buffered = b""
    for seconds, chunk in chunks:
        *complete, buffered = (buffered + chunk).split(b"\n\n")
        lines = [event.strip().removeprefix(b"data:").strip() for event in complete]
        found += [(seconds, json.loads(line)) for line in lines if line and line != b"[DONE]"]
    return found
