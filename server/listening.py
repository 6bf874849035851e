"""The socket, and uvicorn on it: how it starts, and how it ends on a signal."""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import uvicorn
from fastapi import FastAPI

from server.http_protocol import BoundedProtocol
from server.settings import Settings

_SECONDS_OF_A_THREAD = 0.0005  # ten times shorter than Python's own
_SECONDS_UNREADY = 1.0  # at least, before the port is closed
_SECONDS_BETWEEN_LOOKS = 0.02
_SECONDS_TO_CLOSE = 3  # for clients that do not read the end of their answer
# That an idle connection is kept. Many clients give one up after five seconds, as uvicorn would:
# then both act at once, and a request may go into a connection that is just being closed.
_SECONDS_KEPT = 75


def log_to_the_console(level: str) -> None:
    """Sentences for people on standard error, a line of JSON for each request on the output."""
    logging.basicConfig(level=level.upper(), format="stride: %(message)s")
    requests = logging.getLogger("stride.request")
    requests.addHandler(logging.StreamHandler(sys.stdout))
    requests.propagate = False


def prefer_the_event_loop() -> None:
    """Let nothing beside it keep the interpreter for long; called when all is imported.

    Neither threads, as those that read long prompts, nor the garbage collector: the hundreds of
    thousands of objects that imports have made stay, and need not be looked at again.
    """
    sys.setswitchinterval(_SECONDS_OF_A_THREAD)
    gc.collect()
    gc.freeze()


def fail(message: str) -> int:
    """Say in one line why there is no server; returns the exit code."""
    sys.stderr.write(f"stride: {message}\n")
    return 1


def listen(settings: Settings) -> socket.socket:
    """Take the port, before anything that takes longer.

    Raises:
        OSError: it cannot be had; its ``strerror`` is what to say.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # the address follows, a second time
        message = f"cannot listen on {settings.host}:{settings.port}: {reason}"
        raise OSError(error.errno, message) from error


def address(settings: Settings) -> str:
    """Where the server is reached."""
    host = settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


class Answering(Protocol):
    """What answers requests, as far as its end is concerned."""

    @property
    def ready(self) -> bool:
        """Whether a request would be answered now."""

    def drain(self) -> None:
        """Take no new requests."""

    def close(self) -> None:
        """End the answers in progress with an error."""


class Server(uvicorn.Server):
    """Lets answers finish when a signal ends it, for a while; a second signal ends them, too."""

    def __init__(self, app: FastAPI, answering: Answering, drain_seconds: float) -> None:
        super().__init__(_config(app))
        self._answering = answering
        self._drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn, which dies of the signal in the end, leave the exit code to us."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or stop waiting for it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        else:
            self._answering.close()
            self.should_exit = True

    async def _drain(self) -> None:
        """Take nothing new, and wait for the answers in progress; those that take too long end."""
        deadline = time.monotonic() + self._drain_seconds
        was_ready = self._answering.ready
        self._answering.drain()
        if was_ready:  # whoever sends requests here must hear of it before nobody listens
            await asyncio.sleep(min(_SECONDS_UNREADY, self._drain_seconds))
        while self.server_state.tasks and time.monotonic() < deadline:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        self._answering.close()
        self.should_exit = True


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        loop="asyncio",  # not whatever else happens to be installed: it is what is tested
        http=BoundedProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_SECONDS_KEPT,
        timeout_graceful_shutdown=_SECONDS_TO_CLOSE,
    )
