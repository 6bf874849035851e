"""A server under strain, seen from outside: its processes, and what it says of itself."""

import argparse
import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psutil

from benchmarks.contestants import free_port
from benchmarks.keeping import Connection, ConnectionBroke, Reply
from benchmarks.processes import ChildProcess, ContestantFailed, python

HOST = "127.0.0.1"
_SECONDS_TO_LOAD = 600.0
_SECONDS_BETWEEN_LOOKS = 0.1
_GAUGES = ("stride_requests_running", "stride_requests_waiting")


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What the command line says: these, ``write``, and all others as ``server``."""
    parser.epilog = "All other options go to `stride serve`."
    parser.add_argument("--write", action="store_true", help="put the results into docs/")
    found, others = parser.parse_known_args()
    found.server = others
    return found


class Footprint(NamedTuple):
    """What the server's processes hold at a moment."""

    at: float  # monotonic
    server_bytes: int
    worker_bytes: int  # of all workers
    files: int  # of the API process
    threads: int  # of all processes


class ObservedServer:
    """``stride serve`` with options, in processes of its own. It knows the ``keys``, if any."""

    def __init__(self, options: Sequence[str] = (), keys: Sequence[str] = ()) -> None:
        self.port = free_port()
        command = python("-m", "server", "serve", "--port", str(self.port), *options)
        self._child = ChildProcess(command, extra={"STRIDE_API_KEYS": ",".join(keys)})
        self._process = psutil.Process(self._child.pid)
        self._keys = keys

    def connection(self, number: int = 0) -> Connection:
        """A new connection to it, of a client with one of the keys."""
        if not self._keys:
            return Connection(HOST, self.port)
        key = self._keys[number % len(self._keys)]
        return Connection(HOST, self.port, {"Authorization": f"Bearer {key}"})

    def workers(self) -> list[psutil.Process]:
        """The processes of its workers."""
        return [each for each in self._process.children() if each.is_running()]

    def worker_ids(self) -> list[tuple[int, float]]:
        """What tells its workers from those that would replace them."""
        return sorted((each.pid, each.create_time()) for each in self.workers())

    def footprint(self) -> Footprint:
        """What its processes hold now."""
        workers = self.workers()
        return Footprint(
            at=time.monotonic(),
            server_bytes=self._process.memory_info().rss,
            worker_bytes=sum(each.memory_info().rss for each in workers),
            files=self._process.num_fds(),
            threads=sum(each.num_threads() for each in (self._process, *workers)),
        )

    def log(self) -> str:
        """What it has written so far."""
        return self._child.log()

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """Get a page, or post a body, on a connection of its own."""
        connection = self.connection()
        try:
            return await (connection.get(path) if body is None else connection.post(path, body))
        finally:
            connection.close()

    async def until_ready(self) -> str:
        """Wait until it answers; returns the name of its model.

        Raises:
            ContestantFailed: it ended, or takes too long.
        """
        deadline = time.monotonic() + _SECONDS_TO_LOAD
        while await self.status("/ready") != 200:
            if self._child.has_ended or time.monotonic() > deadline:
                raise ContestantFailed(self._child.last_words())
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        models = (await self.ask("/v1/models")).json["data"]
        return str(models[0]["id"])

    async def status(self, path: str) -> int | None:
        """The status of a page; None while nobody listens."""
        try:
            return (await self.ask(path)).status
        except ConnectionBroke:
            return None

    async def metrics(self) -> str:
        """What it counts."""
        return (await self.ask("/metrics")).body.decode()

    async def until_idle(self, seconds: float) -> bool:
        """Wait until nothing is in progress; says whether that came to be."""
        deadline = time.monotonic() + seconds
        while await self._in_progress():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        return True

    async def gives_all_permits(self, model: str) -> bool:
        """Whether as many answers as it may have in progress are taken at once.

        One request for exactly so many is refused if a single permit was lost.
        """
        limit = round(total(await self.metrics(), "stride_queue_limit"))
        n = math.gcd(limit, 16)
        body = {"model": model, "prompt": ["All"] * (limit // n), "n": n, "max_tokens": 1}
        return (await self.ask("/v1/completions", body)).status == 200

    def stop(self) -> int:
        """End it; returns its exit status."""
        return self._child.stop()

    async def _in_progress(self) -> float:
        page = await self.metrics()
        return sum(total(page, name) for name in _GAUGES)


def samples(page: str, prefix: str | tuple[str, ...]) -> dict[str, float]:
    """The series of a page of metrics whose names begin like this, with their labels."""
    found = (line.rpartition(" ") for line in page.splitlines() if line.startswith(prefix))
    return {name: float(value) for name, _, value in found}


def total(page: str, name: str, labels: Mapping[str, str] | None = None) -> float:
    """The sum of all series of a metric that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in (labels or {}).items()]
    found = samples(page, (f"{name} ", f"{name}{{"))
    return sum(value for series, value in found.items() if all(w in series for w in wanted))
