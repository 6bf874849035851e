"""The benchmark's own client reads what servers stream, with the time of every piece."""

import asyncio
from collections.abc import Sequence

import pytest

from benchmarks.processes import ContestantFailed
from benchmarks.streaming import body_of, stream_all

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_chunks_are_put_together_and_timed_by_their_last_byte() -> None:
    received = [
        (1.0, HEAD + b"5\r\nhel"),
        (2.0, b"lo\r\n3;x=y\r\n"),
        (3.0, b"you\r\n0\r\n\r\n"),
    ]
    assert body_of(received) == [(2.0, b"hello"), (3.0, b"you"), (3.0, b"")]


def test_an_answer_without_chunks_is_one_piece() -> None:
    assert body_of([(1.0, b"HTTP/1.1 200 OK\r\n\r\n{"), (2.0, b"}")]) == [(2.0, b"{}")]


@pytest.mark.parametrize(
    "received", [[], [(1.0, b"HTTP/1.1 500 Oops\r\n\r\nno")]], ids=["nothing", "an error"]
)
def test_anything_else_is_a_failure(received: Sequence[tuple[float, bytes]]) -> None:
    with pytest.raises(ContestantFailed):
        body_of(received)


async def test_streams_run_side_by_side() -> None:
    arrived = asyncio.Event()
    waiting = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        await reader.readuntil(b"}")
        waiting += 1
        if waiting == 2:
            arrived.set()
        await arrived.wait()
        event = b'data: {"choices": [{"text": "a"}], "usage": {"completion_tokens": 1}}\n\n'
        writer.write(HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        timings = await stream_all("127.0.0.1", port, [{"n": 1}, {"n": 2}])
    assert [timing.text for timing in timings] == ["a", "a"]
