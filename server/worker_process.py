"""The operating system's side of a worker: its process, started, looked at and ended."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

import psutil

from server.worker_endings import Ending, ending, kills_for_memory

_SECONDS_TO_END = 1.0  # once it has hung up


class WorkerProcess:
    """A running worker process; made by ``spawn``."""

    def __init__(self, process: asyncio.subprocess.Process, kills_before: int) -> None:
        self._process = process
        self._kills_before = kills_before  # for memory, in the whole system
        self._fault: Ending | None = None  # why we ended it

    @classmethod
    async def spawn(
        cls, program: str, file_descriptor: int, environment: Mapping[str, str]
    ) -> "WorkerProcess":
        """Run a module that speaks over the descriptor of a socket.

        Raises:
            OSError: it cannot be started.
        """
        kills_before = kills_for_memory()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", program, str(file_descriptor)),
            pass_fds=[file_descriptor],
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
            process_group=0,  # Ctrl-C is for this process, which decides when that one ends
        )
        return cls(process, kills_before)

    @property
    def resident_bytes(self) -> int:
        """Its memory; 0 when it is gone."""
        if self._process.returncode is not None:
            return 0
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it, as SIGSTOP does."""
        try:
            return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)
        except psutil.Error:
            return False

    def kill(self, why: Ending | None = None) -> None:
        """End it now; ``why`` is then told as the cause, the first time that one is given."""
        self._fault = self._fault or why
        # Not by the subprocess's own kill(): that would look whether it has ended, and take its
        # status away from the event loop, which then reports 255.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> Ending:
        """Wait until it is gone, as it should be soon, having hung up; else it is killed."""
        try:
            async with asyncio.timeout(_SECONDS_TO_END):
                status = await self._process.wait()
        except TimeoutError:
            self.kill(Ending("corrupt", "killed as it had hung up"))
            status = await self._process.wait()
        out_of_memory = kills_for_memory() > self._kills_before
        return ending(status, fault=self._fault, out_of_memory=out_of_memory)
