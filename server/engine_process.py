"""The worker process: an engine behind a socket. Started by ``server.worker``, never by hand.

One thread: take what has arrived, compute a step, send what came of it. While there is nothing to
compute it sleeps on the socket; when the socket closes, so does the process.
"""

import logging
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from decoding.engine import Engine
from decoding.load import load_engine
from decoding.report import StepReport
from decoding.request import Output, Request
from decoding.runner import UnsupportedModel
from server.frames import (
    Abort,
    Failed,
    FrameReader,
    FromWorker,
    Load,
    Ready,
    Stepped,
    Submit,
    ToWorker,
    encode,
)

logger = logging.getLogger(__name__)
_RECEIVE_BYTES = 1 << 20


class Channel:
    """The worker's end of the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader: FrameReader[ToWorker] = FrameReader(ToWorker)

    def send(self, frame: FromWorker) -> None:
        """Send a frame whole; waits while the API process is behind."""
        self._connection.sendall(encode(frame))

    def receive(self, *, wait: bool) -> Iterator[ToWorker]:
        """The frames that have arrived; with ``wait``, at least one chunk of bytes.

        Raises:
            EOFError: the API process is gone.
        """
        while select.select([self._connection], [], [], None if wait else 0)[0]:
            received = self._connection.recv(_RECEIVE_BYTES)
            if not received:
                raise EOFError
            wait = False
            yield from self._reader.feed(received)


def main(file_descriptor: int) -> int:
    """Load what the first frame says and serve it until the socket closes."""
    # Ctrl-C reaches the whole process group; the API process decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=file_descriptor))
    try:
        first = next(channel.receive(wait=True))
        if isinstance(first, Load) and (engine := _load(first, channel)):
            _serve(engine, channel)
        return 1
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0


def _load(load: Load, channel: Channel) -> Engine | None:
    logging.basicConfig(level=load.log_level.upper(), format="stride worker: %(message)s")
    try:
        engine, info = load_engine(Path(load.directory), load.name, load.options)
    except (UnsupportedModel, OSError, ValueError, RuntimeError, MemoryError) as error:
        channel.send(Failed(message=f"cannot serve {load.name}: {error}"))
        return None
    channel.send(Ready(engine=info))
    return engine


def _serve(engine: Engine, channel: Channel) -> None:
    while True:
        for frame in channel.receive(wait=not engine.has_work):
            if isinstance(frame, Submit):
                _add(engine, frame.request, channel)
            elif isinstance(frame, Abort):
                engine.abort(frame.request_id)
        if engine.has_work:
            channel.send(Stepped(report=engine.step()))


def _add(engine: Engine, request: Request, channel: Channel) -> None:
    try:
        engine.add(request)
    except Exception as error:  # one request never harms the others
        logger.error("request %s refused: %s", request.id, error)
        outputs = [
            Output(request_id=request.id, index=i, finish_reason="error", error=str(error))
            for i in range(request.n)
        ]
        channel.send(Stepped(report=StepReport(outputs=outputs)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
