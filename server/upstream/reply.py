"""Runs an exchange: skeleton or passthrough, one after the other if need be, counted to its end."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from server.errors import ApiError, internal_error
from server.responses import event
from server.upstream.choice import SKELETON
from server.upstream.exchange import Exchange
from server.upstream.fork import FellBack
from server.upstream.passthrough import passed_through
from server.upstream.skeleton import in_points

_log = logging.getLogger(__name__)


async def reply(exchange: Exchange) -> AsyncGenerator[bytes]:
    """The bytes of the answer as they come. Closing ends all calls.

    Raises (while iterating):
        ApiError: there is no answer, or no more of it.
    """
    exchange.starts()
    try:
        async with aclosing(_answered(exchange)) as frames:
            async for frame in frames:
                yield frame
    except (GeneratorExit, asyncio.CancelledError):
        exchange.leaves()
        raise
    except ApiError as error:
        told = exchange.told(error)
        exchange.ends(told.status)
        raise told from error
    except Exception as error:
        _log.exception("request %s failed", exchange.id)
        exchange.ends(500)
        raise internal_error(exchange.id) from error
    else:
        exchange.ends(200)


async def _answered(exchange: Exchange) -> AsyncGenerator[bytes]:
    if exchange.choice.strategy == SKELETON:
        try:
            async with aclosing(in_points(exchange)) as frames:
                async for frame in frames:
                    yield frame
            return
        except FellBack as fell_back:
            exchange.falls_back(fell_back.reason)
    async with aclosing(passed_through(exchange)) as frames:
        async for frame in frames:
            yield frame


async def whole(frames: AsyncGenerator[bytes]) -> bytes:
    """All of it."""
    async with aclosing(frames):
        return b"".join([frame async for frame in frames])


async def events(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The events of a stream whose first has come; a failure is the last one."""
    yield first
    try:
        async for frame in rest:
            yield frame
    except ApiError as error:
        yield event(error.body())
