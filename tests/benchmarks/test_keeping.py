"""The light client reads what servers write, and says so when they do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.keeping import Connection, ConnectionBroke

WHOLE = b"HTTP/1.1 429 X\r\nRetry-After: 7\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\n\n\r\n1\r\nb\r\n0\r\n\r\n"


@asynccontextmanager
async def serving(*answers: bytes, closes: bool = False) -> AsyncIterator[Connection]:
    """A server that gives these answers, one after the other, to whatever it is asked."""
    given, left = iter(answers), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left.append(ended := asyncio.Event())
        while await reader.read(1000):
            writer.write(next(given))
            await writer.drain()
            if closes:
                break
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connection = Connection(*server.sockets[0].getsockname()[:2])
        yield connection
        connection.close()
        for each in left:
            await each.wait()


async def test_answers_come_one_after_the_other_on_one_connection() -> None:
    async with serving(WHOLE, CHUNKED, WHOLE) as connection:
        first = await connection.post("/", {"a": 1})
        assert (first.status, first.headers["retry-after"], first.json) == (429, "7", {})
        assert (await connection.get("/")).body == b"a\n\nb"
        assert (await connection.get("/")).status == 429


@pytest.mark.parametrize("cut", [0, 10, len(CHUNKED) - 20, len(CHUNKED) - 8])
async def test_an_answer_that_ends_too_early_is_none(cut: int) -> None:
    async with serving(CHUNKED[:cut], closes=True) as connection:
        with pytest.raises(ConnectionBroke):
            await connection.get("/")


async def test_whoever_leaves_gets_a_new_connection_for_the_next_request() -> None:
    async with serving(CHUNKED[:-5], WHOLE) as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.get("/")
        assert (await connection.get("/")).status == 429
