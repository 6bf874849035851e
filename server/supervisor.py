"""Keeps one worker running: whenever it ends, however it ends, another one takes its place."""

import asyncio
import logging
import time
from collections.abc import Callable

from decoding.report import EngineInfo
from server.backoff import Backoff
from server.worker import EngineFailed, Worker
from server.worker_endings import Ending, EndReason
from server.worker_metrics import WorkerState

logger = logging.getLogger(__name__)
_SECONDS_TO_PROVE_ITSELF = 1.0  # ready for so long, a worker has not failed to start
_TIMES_LONGER = 10  # than the first start a later one may take
_SECONDS_MORE = 60.0


class Supervisor:
    """One worker and those that replace it.

    ``on_ready`` is called whenever one has loaded, ``on_end`` with the reason whenever one ended
    that should not have.
    """

    def __init__(
        self,
        number: int,
        new_worker: Callable[[], Worker],
        *,
        on_ready: Callable[[], None],
        on_end: Callable[[int, EndReason], None],
    ) -> None:
        self.number = number
        self.worker = new_worker()
        self._new_worker = new_worker
        self._on_ready = on_ready
        self._on_end = on_end
        self._backoff = Backoff()
        self.start_seconds = 0.0  # of the last start
        self._patience: float | None = None  # seconds; none for the first start
        self._keeping: asyncio.Task[None] | None = None

    @property
    def state(self) -> WorkerState:
        """How the worker is now."""
        worker = self.worker
        return WorkerState(
            number=self.number,
            is_ready=worker.ready,
            seconds_since_beat=worker.seconds_since_beat,
            start_seconds=self.start_seconds,
            resident_bytes=worker.resident_bytes,
        )

    async def start(self) -> EngineInfo:
        """Start the first worker, and from then on replace each that ends.

        Raises:
            EngineFailed: the first one could not be loaded; there will be no other.
        """
        info = await self._load()
        self._patience = _TIMES_LONGER * self.start_seconds + _SECONDS_MORE
        self._keeping = asyncio.create_task(self._keep())
        return info

    def close(self) -> None:
        """Let go of the worker and replace it no more."""
        if self._keeping is not None:
            self._keeping.cancel()
        self.worker.close()

    async def stop(self) -> None:
        """End the worker now, and replace it no more."""
        self.close()
        if self._keeping is not None:
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self.worker.stop()

    async def _keep(self) -> None:
        while True:
            ending = await self.worker.ended()
            self._on_end(self.number, ending.reason)
            await asyncio.sleep(self._delay())
            self.worker = self._new_worker()
            await self._replace()

    def _delay(self) -> float:
        was_of_use = self.worker.seconds_ready > _SECONDS_TO_PROVE_ITSELF or self.worker.has_stepped
        delay = self._backoff.delay(was_of_use=was_of_use)
        if delay:
            logger.warning("worker %d is started again in %g s", self.number, delay)
        return delay

    async def _replace(self) -> None:
        """Load the worker; if that fails, it ends, which is all that needs to be known."""
        try:
            async with asyncio.timeout(self._patience):
                await self._load()
        except EngineFailed as error:
            logger.error("worker %d cannot be replaced: %s", self.number, error)
            self.worker.close()
        except TimeoutError:
            logger.error("worker %d cannot be replaced: it does not get ready", self.number)
            await self.worker.stop(Ending("hang", "killed while it was loading"))
        else:
            logger.info("worker %d is ready again, in %.1f s", self.number, self.start_seconds)

    async def _load(self) -> EngineInfo:
        begun = time.monotonic()
        info = await self.worker.start()
        self.start_seconds = time.monotonic() - begun
        self._on_ready()
        return info
