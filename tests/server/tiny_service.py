"""The app over a worker with a tiny model: what one request does to others shows there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from asking import answer
from conftest import connect
from fakes import MODEL, byte_tokenizer
from fastapi import FastAPI
from msgspec.structs import replace
from tiny import OPTIONS, save_tiny_model

from server.admission import Admission, Caps
from server.app import create_app
from server.engine_client import Load
from server.frames import LoadModel
from server.metrics import Metrics
from server.worker import Worker
from server.workers import Workers

PATIENCE = 60  # seconds, for what takes two on a quiet machine
CONTEXT = 200
SONG: dict[str, object] = {"prompt": "canary", "max_tokens": 8, "temperature": 0, "logprobs": 2}


class TinyService:
    """One worker, and the app that everybody asks."""

    def __init__(self, model: Path) -> None:
        self.metrics = Metrics(MODEL)
        options = replace(OPTIONS, context_length=CONTEXT, cache_tokens=40 * CONTEXT)
        load = LoadModel(directory=str(model), name=MODEL, options=options)
        observe = self.metrics.observe_step
        self.workers = Workers(lambda number: Worker(load, observe), 1, self.metrics.workers)
        self.app = self._new_app(self.metrics, Caps())
        self.http = connect(self.app)
        self.song: Any = None

    def another_app(self, caps: Caps) -> FastAPI:
        """Over the same worker, with other caps."""
        return self._new_app(Metrics(MODEL), caps)

    def _new_app(self, metrics: Metrics, caps: Caps) -> FastAPI:
        return create_app(
            engine=self.workers,
            tokenizer=byte_tokenizer(),
            model_names=[MODEL],
            metrics=metrics,
            caps=caps,
        )

    async def sing(self) -> Any:
        """A greedy answer, its text and log-probabilities to the last bit."""
        return (await answer(self.http, "completions", **SONG))["choices"]

    def total(self, name: str, **labels: str) -> float:
        """A metric summed over the labels that are not given."""
        families = self.metrics.registry.collect()
        samples = (each for family in families for each in family.samples if each.name == name)
        return sum(each.value for each in samples if labels.items() <= each.labels.items())

    async def wait_until_idle(self) -> None:
        """Until the worker has heard that nobody waits any more."""
        async with asyncio.timeout(PATIENCE):
            while self.workers.load != Load():
                await asyncio.sleep(0.005)

    def processes(self) -> set[psutil.Process]:
        """The worker, by its start as well as by its number."""
        (state,) = self.workers.states()
        assert state.is_ready
        return set(psutil.Process().children())


def permits(app: FastAPI) -> Admission:
    admission = app.state.services.admission
    assert isinstance(admission, Admission)
    return admission


@asynccontextmanager
async def tiny_service(directory: Path) -> AsyncIterator[TinyService]:
    """Started and singing; nothing of it is left afterwards."""
    service = TinyService(save_tiny_model(directory))
    try:
        await service.workers.start()
        service.song = await service.sing()
        yield service
    finally:
        await service.http.aclose()
        await service.workers.stop()
