"""A contestant's process: started, frozen while others are timed, ended with all its children."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import psutil

ROOT = Path(__file__).parents[1]
_SECONDS_TO_STOP = 10.0


class ContestantFailed(RuntimeError):
    """A contestant cannot run here or broke; the message says why."""


class ChildProcess:
    """A command in a process group of its own, what it says kept in a file.

    With ``talks``, its standard input and output are for ``exchange``. ``extra`` is added to the
    environment that all share.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        talks: bool = False,
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else self._log,
            stderr=self._log,
            cwd=ROOT,
            env={**environment(), **extra},
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def exchange(self, line: bytes) -> bytes:
        """Send a line and wait for the one that answers it.

        Raises:
            ContestantFailed: it ended instead.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContestantFailed(self.last_words()) from None
        return self.read_line()

    def read_line(self) -> bytes:
        """Wait for a line.

        Raises:
            ContestantFailed: it ended instead.
        """
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        raise ContestantFailed(self.last_words())

    def log(self) -> str:
        """What it wrote so far."""
        # From a place of our own: the process writes where the file that it shares with us stands.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def last_words(self) -> str:
        """The last line it wrote."""
        lines = self.log().strip().splitlines()
        return lines[-1].strip() if lines else f"ended with exit code {self._process.poll()}"

    def freeze(self) -> None:
        """Take it off the processor, spinning threads and all."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def stop(self) -> int:
        """End it and what it started; returns its exit status."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a frozen process hears nothing
        try:
            self._process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._log.close()
        return self._process.returncode

    def _signal(self, number: signal.Signals) -> None:
        if not self.has_ended:
            os.killpg(self._process.pid, number)


def threads() -> int:
    """What every contestant computes with: all physical cores this process may use."""
    allowed = len(os.sched_getaffinity(0))
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def environment() -> dict[str, str]:
    """The same for all: equal threads and no network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads()),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def python(*arguments: str) -> list[str]:
    """A command that runs Python code of this environment."""
    return [sys.executable, *arguments]
