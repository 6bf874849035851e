"""Stop working when the client has left: waits for the server's word, never polls."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import TypeVar

from starlette.types import Receive

Result = TypeVar("Result")
Item = TypeVar("Item")


class ClientGone(Exception):
    """The client closed the connection; nobody reads the answer."""


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[object, object, Result]) -> Result:
    """Run ``work`` to its end, or cancel it as soon as the client leaves.

    The request's body must have been read: whatever else arrives is dropped.

    Raises:
        ClientGone: the client left first. ``work`` has ended when this is raised.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        # First, even if the work is done, too: servers need not say a second time that it left.
        if watcher.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def first_unless_gone(receive: Receive, items: AsyncGenerator[Item]) -> Item:
    """The first of some items, which are closed if it does not come.

    Raises:
        ClientGone: the client left first.
    """

    async def advance() -> Item:
        return await anext(items)

    try:
        return await unless_gone(receive, advance())
    except BaseException:
        await items.aclose()
        raise
