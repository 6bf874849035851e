"""A server as a user starts it: the command in a process of its own, reached over a socket."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
SECONDS_TO_LOAD = 300  # on a machine that is busy with other things


class ServerProcess:
    """A running ``stride serve``."""

    def __init__(self, port: int, log: Path, *options: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._http = httpx.Client(base_url=self.url, timeout=5)
        with log.open("wb") as file, signals_heeded():
            self.process = psutil.Popen(
                command("--port", str(port), *options),
                env=environment(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def children(self) -> list[psutil.Process]:
        children: list[psutil.Process] = self.process.children(recursive=True)
        return children

    def status(self, path: str) -> int | None:
        """The status of a page, None while nobody listens."""
        try:
            return self._http.get(path).status_code
        except httpx.TransportError:
            return None

    def wait_until_up(self) -> None:
        """Until it answers at all."""
        self._wait(lambda: self.status("/health") == 200)

    def wait_until_ready(self) -> None:
        """Until it would answer a request."""
        self._wait(lambda: self.status("/ready") == 200)

    def _wait(self, condition: Callable[[], bool]) -> None:
        def happened() -> bool:
            assert self.process.poll() is None, self.log
            return condition()

        wait_for(happened, SECONDS_TO_LOAD)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self, seconds: float) -> int:
        """How it ended, after waiting for it."""
        code: int = self.process.wait(seconds)
        return code

    def kill(self) -> None:
        """Clean up, however the test went."""
        self._http.close()
        if self.process.poll() is None:
            for process in [self.process, *self.children]:
                process.kill()
            self.process.wait()


@contextmanager
def running_server(log: Path, *options: str) -> Iterator[ServerProcess]:
    """Start a server on a free port; nothing of it is left afterwards."""
    server = ServerProcess(free_port(), log, *options)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def signals_heeded() -> Iterator[None]:
    """What is started now heeds signals, though the tests run behind nohup or & and ignore them."""
    ours = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "server", "serve", *options]


def environment() -> dict[str, str]:
    """Ours, without settings that somebody made for another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STRIDE_")}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.05)
