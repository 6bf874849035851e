"""What happens on a connection before there is a request: slow, oversized and broken heads."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from conftest import Build
from fastapi import FastAPI
from on_a_port import on_a_port

from server.http_protocol import BoundedProtocol
from server.limits import Limits

GOOD = b"GET /health HTTP/1.1\r\nHost: stride\r\n\r\n"


class Impatient(BoundedProtocol):
    header_seconds = 0.2


@pytest.fixture
def app(build: Build) -> FastAPI:
    return build(limits=Limits(body_seconds=0.2))


@pytest.fixture
async def port(app: FastAPI) -> AsyncIterator[int]:
    async with on_a_port(app, Impatient) as port:
        yield port


async def sent(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """All that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.create_task(asyncio.wait_for(read(reader), timeout=5))
    for piece in pieces:
        if not reading.done():
            writer.write(piece)
            await asyncio.sleep(pause)
    answer = await reading
    writer.close()
    return answer


async def read(reader: asyncio.StreamReader) -> bytes:
    """All there is; a client that is still sending when the server closes is told by a reset."""
    answer = b""
    with suppress(ConnectionResetError):
        while piece := await reader.read(65_536):
            answer += piece
    return answer


def error_in(answer: bytes) -> tuple[bytes, dict[str, object]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    error: dict[str, object] = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert b"connection: close" in head.lower()
    return head.split(b"\r\n")[0], error


async def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    status, error = error_in(await sent(port))
    assert status.startswith(b"HTTP/1.1 408")
    assert error["code"] == "request_timeout"


async def test_headers_that_trickle_in_are_cut_off(port: int) -> None:
    trickle = [b"GET /health HTTP/1.1\r\n", *[b"X-Slow: 1\r\n"] * 8]
    assert b" 408 " in (await sent(port, *trickle, pause=0.05)).split(b"\r\n")[0]


async def test_a_second_request_has_to_arrive_in_time_too(port: int) -> None:
    answer = await sent(port, GOOD, b"GET /hea", pause=0.1)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answer


async def test_a_request_in_time_is_answered_however_long_the_pause_before_the_next(
    port: int,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(GOOD)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readexactly(len(b'{"status":"ok"}'))
        await asyncio.sleep(0.3)
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nX-Large: " + b"a" * 100_000,
        b"GET /health HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 10_000,
        b"GET /" + b"a" * 100_000,
        b"GET /health HTTP/1.1\r\nX-Large: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
    ids=["one large header", "many headers", "a long path", "all of it at once"],
)
async def test_a_head_that_is_too_large_is_refused(port: int, head: bytes) -> None:
    status, error = error_in(await sent(port, head))
    assert status.startswith(b"HTTP/1.1 431")
    assert error["code"] == "malformed_request"


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"Hello\r\n\r\n"])
async def test_what_is_no_request_is_refused_in_openai_s_shape(port: int, garbage: bytes) -> None:
    status, error = error_in(await sent(port, garbage))
    assert status.startswith(b"HTTP/1.1 400")
    assert error["type"] == "invalid_request_error"


async def test_a_body_that_was_promised_and_trickles_in_is_cut_off(port: int) -> None:
    """Told at once, and not read on for as long as the client likes."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: stride\r\nContent-Length: 100\r\n\r\n{"
    answer = await sent(port, head, *[b" "] * 60, pause=0.05)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer


async def test_a_body_with_two_lengths_is_refused(port: int) -> None:
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: stride\r\nConnection: close\r\n"
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    status, error = error_in(await sent(port, head + b"1\r\n{\r\n0\r\n\r\n"))
    assert status.startswith(b"HTTP/1.1 400")
    assert error["code"] == "malformed_request"


async def test_a_host_that_looks_like_a_path_leads_nowhere_else(port: int) -> None:
    head = b"GET /v1/nothing HTTP/1.1\r\nHost: a/health?x=\r\nConnection: close\r\n\r\n"
    assert (await sent(port, head)).startswith(b"HTTP/1.1 404")


CHUNKED = b"POST /v1/completions HTTP/1.1\r\nHost: stride\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("before", [0, 2])
async def test_a_body_that_breaks_is_refused_after_the_answers_before_it(
    port: int, before: int
) -> None:
    answer = await sent(port, GOOD * before + CHUNKED + b"1\r\n{\r\nno length\r\n" + GOOD)
    *good, bad = answer.split(b"HTTP/1.1 ")[1:]
    assert [each[:3] for each in good] == [b"200"] * before
    assert bad.startswith(b"400")


async def test_a_large_body_behind_a_small_head_is_no_large_head(port: int) -> None:
    body = b'{"prompt": "' + b"a" * 100_000
    head = (
        b"POST /nowhere HTTP/1.1\r\nHost: stride\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    )
    assert (await sent(port, head % len(body) + body)).startswith(b"HTTP/1.1 404")


async def test_many_small_heads_are_no_large_one(port: int) -> None:
    head = GOOD.replace(b"Host", b"X-Some: " + b"a" * 5_000 + b"\r\nHost")
    last = GOOD.replace(b"Host", b"Connection: close\r\nHost")
    answer = await sent(port, *[head] * 15, last, pause=0.02)
    assert answer.count(b"HTTP/1.1 200") == 16


async def test_a_head_that_stops_behind_an_answer_in_progress_is_refused_after_it() -> None:
    """Not in the middle of the answer."""
    slow = FastAPI()

    @slow.get("/health")
    async def health() -> dict[str, str]:
        await asyncio.sleep(2 * Impatient.header_seconds)
        return {"status": "slow"}

    async with on_a_port(slow, Impatient) as port:
        _, first, second = (await sent(port, GOOD + b"GET /hea")).split(b"HTTP/1.1 ")
    assert first.startswith(b"200") and first.endswith(b'{"status":"slow"}')
    assert second.startswith(b"408")


async def test_a_protocol_that_is_offered_and_not_spoken_here_is_no_hindrance(port: int) -> None:
    """Some clients offer HTTP/2 with their first request, and keep the connection."""
    offer = (
        b"POST /nowhere HTTP/1.1\r\nHost: stride\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 2\r\n\r\n{}"
    )
    last = GOOD.replace(b"Host", b"Connection: close\r\nHost")
    _, first, second = (await sent(port, offer, last, pause=0.05)).split(b"HTTP/1.1 ")
    assert first.startswith(b"404") and second.startswith(b"200")


async def test_what_comes_before_a_bad_request_is_answered_and_nothing_behind_it(
    port: int,
) -> None:
    answer = await sent(port, GOOD * 24 + b"nonsense\r\n\r\n" + GOOD * 25)
    *good, bad = answer.split(b"HTTP/1.1 ")[1:]
    assert [each[:3] for each in good] == [b"200"] * 24
    assert bad.startswith(b"400")
