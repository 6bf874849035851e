"""The API process's side of a worker: start it, feed it, route what it sends back.

Nothing here blocks the event loop: frames are read by one task, every request waits on a queue of
its own, and another task listens for the heartbeat and kills a worker that has none.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from decoding.report import Drafting, EngineInfo, StepReport
from decoding.request import Output, Request
from server.engine_client import EngineDied, Load
from server.frames import (
    Abort,
    Beat,
    Failed,
    FrameReader,
    FromWorker,
    LoadModel,
    Ready,
    Stepped,
    Submit,
    ToWorker,
    encode,
)
from server.heartbeat import LOOK_SECONDS, Pulse
from server.worker_endings import Ending
from server.worker_process import WorkerProcess

logger = logging.getLogger(__name__)
_PROGRAM = "server.engine_process"  # by name: importing it would load torch here
_READ_BYTES = 1 << 18
_AT_ONCE = 4  # outputs, of which each wakes a request
_SUSPICIOUS_SECONDS = 0.5  # of silence, after which it is asked whether it was stopped


class EngineFailed(RuntimeError):
    """The engine could not be loaded; the message says why."""


class Worker:
    """An engine in a process of its own.

    ``on_step`` is called with the report of every step, before its outputs are handed on.
    ``variables`` go into the process's environment, ``program`` is the module that it runs.
    """

    def __init__(
        self,
        load: LoadModel,
        on_step: Callable[[StepReport], None] = lambda report: None,
        *,
        variables: Mapping[str, str] = MappingProxyType({}),
        program: str = _PROGRAM,
    ):
        self._model = load
        self._on_step = on_step
        self._variables = variables
        self._program = program
        self._info: EngineInfo | None = None
        self._load = Load()
        self._drafting: Drafting | None = None
        self._streams: dict[str, asyncio.Queue[Output | None]] = {}
        self._tokens = 0  # of the prompts and documents of those requests, once a choice
        self._process: WorkerProcess | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._receiving: asyncio.Task[Ending] | None = None
        self._started: asyncio.Future[EngineInfo] | None = None
        self._pulse: Pulse | None = None
        self._ready_since: float | None = None
        self._has_stepped = False
        self._is_closed = False

    # --- what it is ---

    @property
    def info(self) -> EngineInfo | None:
        """The facts of the loaded engine; None until it is loaded."""
        return self._info

    @property
    def load(self) -> Load:
        """How busy the engine was after its last step."""
        return self._load

    @property
    def drafting(self) -> Drafting | None:
        """What the engine has learned about drafts, as it last said."""
        return self._drafting

    @property
    def ready(self) -> bool:
        """Whether the engine is loaded, alive and its loop turned just now."""
        return self._info is not None and not self._is_closed and not self._is_overdue

    @property
    def requests(self) -> int:
        """Requests in its hands."""
        return len(self._streams)

    @property
    def seconds_since_beat(self) -> float:
        """How long nothing was heard of it; 0 before it was started."""
        return 0.0 if self._pulse is None else self._now() - self._pulse.last_beat

    @property
    def has_stepped(self) -> bool:
        """Whether it has computed anything for a request."""
        return self._has_stepped

    @property
    def seconds_ready(self) -> float:
        """How long ago it was loaded; 0 while it is not."""
        return 0.0 if self._ready_since is None else self._now() - self._ready_since

    @property
    def resident_bytes(self) -> int:
        """Its memory; 0 when it is gone."""
        return 0 if self._process is None else self._process.resident_bytes

    # --- its life ---

    async def start(self) -> EngineInfo:
        """Start the process and wait until its engine is loaded.

        Raises:
            EngineFailed: it could not be.
        """
        try:
            reader, process = await self._open()
        except OSError as error:
            raise EngineFailed(f"the worker cannot be started: {error}") from error
        self._started = asyncio.get_running_loop().create_future()
        self._pulse = Pulse(self._now())
        watching = asyncio.create_task(self._watch(self._pulse, process))
        self._receiving = asyncio.create_task(self._receive(reader, process))
        self._receiving.add_done_callback(lambda task: watching.cancel())
        self._send(self._model)
        return await self._started

    async def _open(self) -> tuple[asyncio.StreamReader, WorkerProcess]:
        """A process that has been told nothing yet, and where to hear from it."""
        environment = {**_environment(self._model.options.threads), **self._variables}
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await WorkerProcess.spawn(self._program, theirs.fileno(), environment)
            self._process = process
            reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        return reader, process

    def close(self) -> None:
        """Let go of the process, which ends it; requests in progress end with EngineDied."""
        self._is_closed = True
        if self._writer is not None:
            self._writer.transport.abort()

    async def stop(self, why: Ending | None = None) -> None:
        """End the process now, whatever it does: it has nothing to save."""
        self.close()
        if self._process is not None:
            self._process.kill(why)
            await self._process.ended()
        if self._receiving is not None:
            await self._receiving

    async def ended(self) -> Ending:
        """Wait until the process is gone; says why."""
        if self._receiving is None:
            return Ending("exit", "never started")
        return await asyncio.shield(self._receiving)

    # --- its work ---

    async def generate(self, request: Request) -> AsyncGenerator[Output]:
        """Yield what every step adds to any choice, until all choices have a finish reason.

        Closing the generator aborts the work.

        Raises (while iterating):
            EngineDied: the worker is gone.
        """
        if self._receiving is None or self._is_closed:
            raise EngineDied("the worker is not running")
        outputs = self._streams[request.id] = asyncio.Queue()
        unfinished, tokens = request.n, _tokens_of(request)
        self._tokens += tokens
        try:
            self._send(Submit(request=request))
            while unfinished:
                output = await outputs.get()
                if output is None:
                    raise EngineDied("the worker ended")
                unfinished -= output.finish_reason is not None
                yield output
        finally:
            del self._streams[request.id]
            self._tokens -= tokens
            if unfinished:
                self._send(Abort(request_id=request.id))

    def _send(self, frame: ToWorker) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(frame))

    async def _receive(self, reader: asyncio.StreamReader, process: WorkerProcess) -> Ending:
        """Handle frames until the worker ends, then tell everyone who waits for it."""
        frames: FrameReader[FromWorker] = FrameReader(FromWorker)
        try:
            while received := await reader.read(_READ_BYTES):
                for frame in frames.feed(received):
                    await self._handle(frame)
        except ConnectionError:
            pass  # it ended before it had read all
        except Exception:  # what it sent, or what was done with it: the worker is of no use now
            logger.exception("cannot go on with the worker")
            process.kill(Ending("corrupt", "killed for what it sent"))
        return await self._hung_up(process)

    async def _handle(self, frame: FromWorker) -> None:
        if self._pulse is not None:
            self._pulse.beat(self._now(), frame.seconds if isinstance(frame, Beat) else 0.0)
        match frame:
            case Stepped(report=report):
                await self._stepped(report)
            case Ready(engine=info):
                self._info, self._ready_since = info, self._now()
                self._settle(info)
            case Failed(message=message):
                logger.log(logging.DEBUG if self._info is None else logging.ERROR, message)
                self._settle(EngineFailed(message))

    async def _stepped(self, report: StepReport) -> None:
        self._has_stepped |= report.sequences > 0
        self._drafting = report.drafting or self._drafting
        self._load = Load(report.running, report.waiting, report.cache_usage)
        if self._info is not None and report.cost is not None:
            self._info = replace(self._info, cost=report.cost)
        self._on_step(report)
        await self._hand_on(report.outputs)

    async def _hand_on(self, outputs: Sequence[Output]) -> None:
        """Wake those who wait for outputs, a few at a time: others have to get a turn between.

        Writing what a step of hundreds of sequences brought takes a tenth of a second.
        """
        for first in range(0, len(outputs), _AT_ONCE):
            for output in outputs[first : first + _AT_ONCE]:
                if stream := self._streams.get(output.request_id):
                    stream.put_nowait(output)
            await asyncio.sleep(0)

    async def _hung_up(self, process: WorkerProcess) -> Ending:
        was_expected = self._is_closed
        self.close()
        self._load = Load()
        for stream in self._streams.values():
            stream.put_nowait(None)
        ending = await process.ended()
        self._settle(EngineFailed(f"the worker ended while it was loading, {ending.text}"))
        if self._info is not None and not was_expected:
            logger.error("the worker ended, %s", ending.text)
        return ending

    def _settle(self, outcome: EngineInfo | EngineFailed) -> None:
        if self._started is None or self._started.done():
            return
        if isinstance(outcome, EngineFailed):
            self._started.set_exception(outcome)
        else:
            self._started.set_result(outcome)

    # --- its heartbeat ---

    async def _watch(self, pulse: Pulse, process: WorkerProcess) -> None:
        """Kill the process when its loop is silent for too long, or when somebody stopped it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            pulse.look(self._now())
            is_stopped = pulse.silence > _SUSPICIOUS_SECONDS and process.is_stopped
            if is_stopped or self._is_overdue:
                state = "was stopped" if is_stopped else "hung"
                text = f"killed because it {state}: silent for {self.seconds_since_beat:.1f} s"
                process.kill(Ending("hang", text))

    @property
    def _is_overdue(self) -> bool:
        if self._pulse is None or self._info is None:  # while it loads nothing is expected of it
            return False
        has_work = bool(self._streams or self._load.running or self._load.waiting)
        return self._pulse.is_overdue(is_busy=has_work, tokens=self._tokens)

    @staticmethod
    def _now() -> float:
        return time.monotonic()


def _tokens_of(request: Request) -> int:
    known = sum(len(reference.tokens) for reference in request.references)
    return request.n * (len(request.prompt) + known)


ENVIRONMENT = {
    # The threads of a forward wait for the next one this long (about 12 ms) before they sleep:
    # guessing takes some milliseconds between two, and waking up costs more than that.
    "GOMP_SPINCOUNT": "1000000",
    "THP_MEM_ALLOC_ENABLE": "1",  # weights in huge pages
    # Every step makes and drops tensors of megabytes. Left to itself the C library gives them back
    # to the system each time, and fetching their pages again takes longer than the step.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""How a process that runs an engine should use threads and memory: variables, read at its start.

Those that are set already stay.
"""


def _environment(threads: int) -> dict[str, str]:
    """One OpenMP pool of the right size, no second pool in the tokenizer."""
    environment = {**ENVIRONMENT, **os.environ, "TOKENIZERS_PARALLELISM": "false"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment
