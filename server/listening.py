"""The socket, and uvicorn on it: how it starts, and how it ends on a signal."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from server.http_protocol import HEADER_BYTES, BoundedProtocol
from server.settings import Settings

_SECONDS_TO_DRAIN = 5


def log_to_the_console(level: str) -> None:
    """Sentences for people on standard error, a line of JSON for each request on the output."""
    logging.basicConfig(level=level.upper(), format="stride: %(message)s")
    requests = logging.getLogger("stride.request")
    requests.addHandler(logging.StreamHandler(sys.stdout))
    requests.propagate = False


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


class Server(uvicorn.Server):
    """Lets answers finish when a signal ends it, for a while; a second signal ends them, too.

    ``end_answers`` makes those in progress end with an error.
    """

    def __init__(self, app: FastAPI, end_answers: Callable[[], None]) -> None:
        super().__init__(_config(app))
        self._end_answers = end_answers
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn, which dies of the signal in the end, leave the exit code to us."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or stop waiting for it."""
        if self.should_exit and self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_answers)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the answers in progress; those that take too long end with an error event."""
        asyncio.get_running_loop().call_later(_SECONDS_TO_DRAIN, self._end_answers)
        await super().shutdown(sockets)


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="on",
        loop="asyncio",  # not whatever else happens to be installed: it is what is tested
        http=BoundedProtocol,
        h11_max_incomplete_event_size=HEADER_BYTES,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_DRAIN + 1,  # for what no engine holds up
    )
