"""Measures how late the event loop is: what blocks it delays every answer alike."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

SECONDS_BETWEEN_LOOKS = 0.1


@asynccontextmanager
async def watching(observe: Callable[[float], None]) -> AsyncIterator[None]:
    """Tell ``observe`` again and again how many seconds late a timer was."""
    watch = asyncio.create_task(_watch(observe))
    try:
        yield
    finally:
        watch.cancel()


async def _watch(observe: Callable[[float], None]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + SECONDS_BETWEEN_LOOKS
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        observe(max(0.0, loop.time() - due))
