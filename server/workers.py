"""The engine as several workers: who answers a request, and what becomes of it if that one ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from decoding.report import Drafting, EngineInfo
from decoding.request import Output, Request
from server.engine_client import EngineDied, Load
from server.lost_answers import LostAnswer
from server.routing import route
from server.supervisor import Supervisor
from server.worker import Worker
from server.worker_metrics import WorkerMetrics, WorkerState

# That a request waits for a worker: this, and so many times what a start takes.
_SECONDS_FOR_A_REPLACEMENT, _STARTS = 20.0, 2


class _NoWorker(EngineDied):
    """None was ready in time; asking again would only take as long once more."""


class Workers:
    """Supervised workers behind one engine client.

    ``new_worker`` makes a worker, not yet started, for each number from 0 to ``count`` - 1.
    """

    def __init__(
        self, new_worker: Callable[[int], Worker], count: int, metrics: WorkerMetrics
    ) -> None:
        self._metrics = metrics
        self._supervisors = [
            Supervisor(
                number,
                partial(new_worker, number),
                on_ready=self._tell,
                on_end=metrics.restarted,
            )
            for number in range(count)
        ]
        self._news = asyncio.Event()  # a worker became ready, or none will
        self._info: EngineInfo | None = None
        self._is_draining = False
        self._is_closed = False
        metrics.watch(self)

    # --- what they are ---

    @property
    def info(self) -> EngineInfo | None:
        """The facts of an engine, all being alike; None until the first ones are loaded."""
        if self._info is not None:
            self._info = next((w.info for w in self._ready().values() if w.info), self._info)
        return self._info

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now: some worker makes progress."""
        return self._info is not None and not self._is_draining and bool(self._ready())

    @property
    def is_draining(self) -> bool:
        """Whether what is in progress is finished and nothing new is taken."""
        return self._is_draining

    @property
    def load(self) -> Load:
        """How busy all are together; of their caches, the mean."""
        loads = [supervisor.worker.load for supervisor in self._supervisors]
        return Load(
            running=sum(load.running for load in loads),
            waiting=sum(load.waiting for load in loads),
            cache_usage=sum(load.cache_usage for load in loads) / len(loads),
        )

    @property
    def drafting(self) -> Drafting | None:
        """What the least busy worker has learned about drafts: it would be asked next."""
        ready = self._ready().values()
        return min(ready, key=lambda worker: worker.requests).drafting if ready else None

    def states(self) -> list[WorkerState]:
        """How each worker is now."""
        return [supervisor.state for supervisor in self._supervisors]

    # --- their life ---

    async def start(self) -> EngineInfo:
        """Load all workers side by side.

        Raises:
            EngineFailed: one could not be loaded.
        """
        infos = await asyncio.gather(*(supervisor.start() for supervisor in self._supervisors))
        self._info = infos[0]
        return infos[0]

    def drain(self) -> None:
        """From now on be unready; what is in progress goes on."""
        self._is_draining = True

    def close(self) -> None:
        """Let go of all workers; requests in progress end as aborted."""
        self._is_closed = True
        for supervisor in self._supervisors:
            supervisor.close()
        self._tell()

    async def stop(self) -> None:
        """End all workers now."""
        self.close()
        await asyncio.gather(*(supervisor.stop() for supervisor in self._supervisors))

    # --- their work ---

    async def generate(self, request: Request, *, is_whole: bool = False) -> AsyncGenerator[Output]:
        """Yield what every step adds to any choice, until all choices have a finish reason.

        If the worker ends before it has said anything, another one is asked, once; with
        ``is_whole``, when the client sees no part of the answer before all of it, also later.
        Closing the generator aborts the work.

        Raises (while iterating):
            EngineDied: the answer is lost.
        """
        said, has_begun = LostAnswer(), False
        # Branches come out in one order, but not in the same pieces.
        can_repeat = is_whole and not request.stages
        try:
            async with aclosing(self._asked(request)) as outputs:
                async for output in outputs:
                    has_begun = True
                    if can_repeat:
                        said.note(output)
                    yield output
        except EngineDied as error:
            if isinstance(error, _NoWorker) or (has_begun and not can_repeat):
                self._metrics.lost()
                raise
        else:
            return
        self._metrics.repeated()
        async with aclosing(self._repeated(request, said)) as outputs:
            async for output in outputs:
                yield output

    async def _repeated(self, request: Request, said: LostAnswer) -> AsyncGenerator[Output]:
        """What a second attempt adds to what the first one had said."""
        try:
            async with aclosing(self._asked(request)) as outputs:
                async for output in outputs:
                    if (rest := said.rest(output)) is not None:
                        yield rest
        except EngineDied:
            self._metrics.lost()
            raise

    async def _asked(self, request: Request) -> AsyncGenerator[Output]:
        """One attempt, by the worker that suits the request; aborted if all are let go."""
        try:
            worker = await self._worker_for(request)
            async with aclosing(worker.generate(request)) as outputs:
                async for output in outputs:
                    yield output
        except EngineDied:
            if not self._is_closed:
                raise
            yield Output(request_id=request.id, finish_reason="abort")

    async def _worker_for(self, request: Request) -> Worker:
        """A live worker; waits for a replacement, but not for ever."""
        start_seconds = max(each.start_seconds for each in self._supervisors)
        try:
            async with asyncio.timeout(_SECONDS_FOR_A_REPLACEMENT + _STARTS * start_seconds):
                while not (ready := self._ready()):
                    if self._is_closed:
                        raise EngineDied("the server shuts down")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise _NoWorker("no worker was ready in time") from None
        return ready[route(request, {number: w.requests for number, w in ready.items()})]

    def _ready(self) -> dict[int, Worker]:
        workers = ((each.number, each.worker) for each in self._supervisors)
        return {number: worker for number, worker in workers if worker.ready}

    def _tell(self) -> None:
        self._news.set()
