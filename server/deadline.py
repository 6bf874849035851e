"""Until when an answer must be complete: what a header or a field of the body allows."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TypeVar

from starlette.datastructures import Headers

from server.errors import deadline_exceeded, invalid, shorten
from server.schemas import MAX_DEADLINE

HEADER = "x-stride-deadline"
Item = TypeVar("Item")


def deadline_of(headers: Headers, field: float | None) -> float | None:
    """Seconds from the arrival of the request; the shorter one counts, None is no deadline.

    Raises:
        ApiError: the header is no number of seconds.
    """
    given = [each for each in (_in_header(headers.get(HEADER)), field) if each is not None]
    return min(given, default=None)


def deadline_in(raw: Mapping[str, object]) -> float | None:
    """What a body says whose other fields are not ours to check.

    Raises:
        ApiError: it is no number of seconds.
    """
    given = raw.get("deadline")
    if given is None:
        return None
    # True is a number to Python, and none to anybody else.
    seconds = given if isinstance(given, int | float) and not isinstance(given, bool) else 0
    if not 0 < seconds <= MAX_DEADLINE:
        raise invalid(f"'deadline' is a number of seconds up to {MAX_DEADLINE:g}", "deadline")
    return float(seconds)


def _in_header(written: str | None) -> float | None:
    if written is None:
        return None
    try:
        seconds = float(written)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_DEADLINE:  # which NaN is not either
        message = f"'{HEADER}' is a number of seconds up to {MAX_DEADLINE:g}"
        raise invalid(f"{message}, not '{shorten(written, 40)}'", HEADER)
    return seconds


async def in_time(
    items: AsyncGenerator[Item], arrived: float, deadline: float | None
) -> AsyncGenerator[Item]:
    """The items, as long as there is time.

    The clock is set for each item apart: between two of them another task may go on.

    Raises (while iterating):
        ApiError: the time is over.
    """
    if deadline is None:
        async for item in items:
            yield item
        return
    end = asyncio.get_running_loop().time() + deadline - (time.monotonic() - arrived)
    while True:
        try:
            async with asyncio.timeout_at(end):
                item = await anext(items)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise deadline_exceeded(deadline) from None
        yield item
