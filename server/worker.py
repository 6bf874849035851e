"""The API process's side of a worker: start it, feed it, route what it sends back.

Nothing here blocks the event loop: frames are read by one task, and every request waits on a queue
of its own.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from msgspec.structs import replace

from decoding.report import Drafting, EngineInfo, StepReport
from decoding.request import Output, Request
from server.engine_client import EngineDied, Load
from server.frames import (
    Abort,
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

logger = logging.getLogger(__name__)
_PROGRAM = "server.engine_process"  # by name: importing it would load torch here
_READ_BYTES = 1 << 18
_SECONDS_WITHOUT_STEP = 60.0


class EngineFailed(RuntimeError):
    """The engine could not be loaded; the message says why."""


class Worker:
    """An engine in a process of its own.

    ``on_step`` is called with the report of every step, before its outputs are handed on.
    """

    def __init__(
        self, load: LoadModel, on_step: Callable[[StepReport], None] = lambda report: None
    ):
        self._model = load
        self._on_step = on_step
        self._info: EngineInfo | None = None
        self._load = Load()
        self._drafting: Drafting | None = None
        self._streams: dict[str, asyncio.Queue[Output | None]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._started: asyncio.Future[EngineInfo] | None = None
        self._last_step = 0.0
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
        """Whether the engine is loaded, alive and, if it has work, makes progress."""
        if self._info is None or self._is_closed:
            return False
        return not self._streams or self._now() - self._last_step < _SECONDS_WITHOUT_STEP

    # --- its life ---

    async def start(self) -> EngineInfo:
        """Start the process and wait until its engine is loaded.

        Raises:
            EngineFailed: it could not be.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = process = await self._spawn(theirs.fileno())
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._started = asyncio.get_running_loop().create_future()
        self._receiving = asyncio.create_task(self._receive(reader, process))
        self._send(self._model)
        return await self._started

    async def _spawn(self, file_descriptor: int) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _PROGRAM,
                str(file_descriptor),
                pass_fds=[file_descriptor],
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(self._model.options.threads),
                process_group=0,  # Ctrl-C is for this process, which decides when that one ends
            )
        except OSError as error:
            raise EngineFailed(f"the worker cannot be started: {error}") from error

    def close(self) -> None:
        """Let go of the process, which ends it; requests in progress end with EngineDied."""
        self._is_closed = True
        if self._writer is not None:
            self._writer.transport.abort()

    async def stop(self) -> None:
        """End the process now, whatever it does: it has nothing to save."""
        self.close()
        if self._process is not None and self._process.returncode is None:
            # Not by its own kill(): that would look whether it has ended, and take its status away
            # from the event loop, which then reports 255.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._receiving is not None:
            await self._receiving

    # --- its work ---

    async def generate(self, request: Request) -> AsyncGenerator[Output]:
        """Yield what every step adds to any choice, until all choices have a finish reason.

        Closing the generator aborts the work.

        Raises (while iterating):
            EngineDied: the worker is gone.
        """
        if self._receiving is None or self._is_closed:
            raise EngineDied("the worker is not running")
        if not self._streams:
            self._last_step = self._now()
        outputs = self._streams[request.id] = asyncio.Queue()
        unfinished = request.n
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
            if unfinished:
                self._send(Abort(request_id=request.id))

    def _send(self, frame: ToWorker) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(frame))

    async def _receive(
        self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process
    ) -> None:
        """Handle frames until the worker ends, then tell everyone who waits for it."""
        frames: FrameReader[FromWorker] = FrameReader(FromWorker)
        try:
            while received := await reader.read(_READ_BYTES):
                for frame in frames.feed(received):
                    self._handle(frame)
        except ConnectionError:
            pass  # it ended before it had read all
        except Exception:  # what it sent, or what was done with it: the worker is of no use now
            logger.exception("cannot go on with the worker")
        finally:
            await self._ended(process)

    def _handle(self, frame: FromWorker) -> None:
        match frame:
            case Stepped(report=report):
                self._stepped(report)
            case Ready(engine=info):
                self._info = info
                self._settle(info)
            case Failed(message=message):
                self._settle(EngineFailed(message))

    def _stepped(self, report: StepReport) -> None:
        self._last_step = self._now()
        self._drafting = report.drafting or self._drafting
        self._load = Load(report.running, report.waiting, report.cache_usage)
        if self._info is not None and report.cost is not None:
            self._info = replace(self._info, cost=report.cost)
        self._on_step(report)
        for output in report.outputs:
            if stream := self._streams.get(output.request_id):
                stream.put_nowait(output)

    async def _ended(self, process: asyncio.subprocess.Process) -> None:
        was_expected = self._is_closed
        self.close()
        self._load = Load()
        for stream in self._streams.values():
            stream.put_nowait(None)
        status = await process.wait()
        self._settle(EngineFailed(f"the worker ended while it was loading, {_cause(status)}"))
        if self._info is not None and not was_expected:
            logger.error("the worker ended, %s", _cause(status))

    def _settle(self, outcome: EngineInfo | EngineFailed) -> None:
        if self._started is None or self._started.done():
            return
        if isinstance(outcome, EngineFailed):
            self._started.set_exception(outcome)
        else:
            self._started.set_result(outcome)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _cause(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


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
