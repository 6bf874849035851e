"""A program: how long refusals take, seen by a client that has nothing else to do.

``python -m benchmarks.refusals PORT MODEL SECONDS``. The clients that make the overload are
thousands in one process, and each of them waits for the others before it looks at its answer.
"""

import asyncio
import json
import sys
import time

from benchmarks.keeping import Connection
from benchmarks.observing import HOST

_SECONDS_BETWEEN = 0.1
_PLACES = 16  # that are asked for: as many are hardly ever free
_SECONDS_TO_REFUSE = 2.0  # whoever has heard nothing by then was taken on


async def refused(connection: Connection, model: str, seconds: float) -> list[float]:
    """Ask again and again for so long; the seconds that each refusal took."""
    body = {"model": model, "prompt": "Is there room?", "max_tokens": 1, "n": _PLACES}
    found: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            async with asyncio.timeout(_SECONDS_TO_REFUSE):
                reply = await connection.post("/v1/completions", body)
        except TimeoutError:
            continue
        if reply.status == 429:
            found.append(reply.seconds)
        await asyncio.sleep(_SECONDS_BETWEEN)
    return found


def main() -> None:
    """Run from the command line."""
    port, model, seconds = sys.argv[1:]
    connection = Connection(HOST, int(port))
    print(json.dumps(asyncio.run(refused(connection, model, float(seconds)))))


if __name__ == "__main__":
    main()
