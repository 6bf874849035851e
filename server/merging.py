"""Several streams as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


def merged(streams: Sequence[AsyncGenerator[Item]]) -> AsyncGenerator[tuple[int, Item]]:
    """What all streams yield as it comes, with the number of the stream.

    The first error ends all of them, and so does closing.
    """
    return _numbered(0, streams[0]) if len(streams) == 1 else _side_by_side(streams)


async def _numbered(number: int, stream: AsyncGenerator[Item]) -> AsyncGenerator[tuple[int, Item]]:
    async with aclosing(stream):
        async for item in stream:
            yield number, item


async def _side_by_side(
    streams: Sequence[AsyncGenerator[Item]],
) -> AsyncGenerator[tuple[int, Item]]:
    arrived: asyncio.Queue[tuple[int, Item] | asyncio.Task[None]] = asyncio.Queue()

    async def forward(number: int, stream: AsyncGenerator[Item]) -> None:
        async with aclosing(_numbered(number, stream)) as numbered:
            async for entry in numbered:
                await arrived.put(entry)

    tasks = [asyncio.create_task(forward(*numbered)) for numbered in enumerate(streams)]
    for task in tasks:
        task.add_done_callback(arrived.put_nowait)
    running = len(tasks)
    try:
        while running:
            entry = await arrived.get()
            if isinstance(entry, asyncio.Task):
                running -= 1
                entry.result()
            else:
                yield entry
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
