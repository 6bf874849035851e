"""Workers that follow scripts: the n-th process started follows the n-th one."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, generate_latest

from decoding.options import LoadOptions
from server.frames import LoadModel
from server.worker import Worker
from server.worker_metrics import WorkerMetrics
from server.workers import Workers

PATIENCE = 30  # seconds, for what takes tenths of one on a quiet machine
PYTHONPATH = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
DOES_NOTHING = "nothing@-1"


class Pool:
    """So many workers at once, and what is counted about them."""

    def __init__(self, count: int, *scripts: str) -> None:
        self.started = 0
        self._scripts = scripts
        self._registry = CollectorRegistry()
        self.workers = Workers(self._new_worker, count, WorkerMetrics(self._registry))

    def _new_worker(self, number: int) -> Worker:
        script = self._scripts[self.started] if self.started < len(self._scripts) else DOES_NOTHING
        self.started += 1
        load = LoadModel(directory="", name="", options=LoadOptions(threads=1))
        variables = {"SCRIPT": script, "PYTHONPATH": PYTHONPATH}
        return Worker(load, variables=variables, program="scripted_worker")

    def metric(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(name, labels) or 0.0

    def restarts(self, reason: str, worker: str = "0") -> float:
        return self.metric("stride_worker_restarts_total", worker=worker, reason=reason)

    @property
    def exposition(self) -> str:
        return generate_latest(self._registry).decode()


@asynccontextmanager
async def running(count: int, *scripts: str) -> AsyncIterator[Pool]:
    """A started pool; no process of it is left afterwards."""
    before = set(psutil.Process().children())
    pool = Pool(count, *scripts)
    try:
        await pool.workers.start()
        yield pool
    finally:
        await pool.workers.stop()
        assert set(psutil.Process().children()) <= before


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
