"""The worker process: an engine behind a socket. Started by ``server.worker``, never by hand.

One thread: take what has arrived, compute a step, send what came of it. While there is nothing to
compute it sleeps on the socket and says now and then that it could. When the socket closes the
process ends, whatever it is doing.
"""

import gc
import logging
import os
import select
import signal
import socket
import sys
import textwrap
from pathlib import Path
from threading import Thread

from transformers.utils import logging as transformers_logging

from decoding.engine import Engine
from decoding.load import load_engine
from decoding.request import Output, Request
from server.frames import (
    Abort,
    Beat,
    Failed,
    FrameError,
    FrameReader,
    FromWorker,
    LoadModel,
    Ready,
    Stepped,
    Submit,
    ToWorker,
    encode,
)
from server.heartbeat import ANNOUNCED_SECONDS, BEAT_SECONDS

logger = logging.getLogger(__name__)
_RECEIVE_BYTES = 1 << 20
_LONGEST_REASON = 500  # characters
_NICENESS = 5  # who asks, and the API process that answers, need the processor first, and briefly


class Channel:
    """The worker's end of the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader: FrameReader[ToWorker] = FrameReader(ToWorker)

    def send(self, frame: FromWorker) -> None:
        """Send a frame whole; waits while the API process is behind."""
        self._connection.sendall(encode(frame))

    def announce(self, seconds: float) -> None:
        """Say that a forward will take so long, if that is worth a frame."""
        if seconds > ANNOUNCED_SECONDS:
            self.send(Beat(seconds))

    def receive(self, *, wait: float | None) -> list[ToWorker]:
        """The frames that have arrived; for the first it waits so many seconds (None: for ever).

        Raises:
            EOFError: the API process is gone.
            FrameError: it sent something else.
        """
        frames: list[ToWorker] = []
        while select.select([self._connection], [], [], 0 if frames else wait)[0]:
            received = self._connection.recv(_RECEIVE_BYTES)
            if not received:
                raise EOFError
            frames += self._reader.feed(received)
        return frames


def main(file_descriptor: int) -> int:
    """Load what the first frame says and serve it until the socket closes."""
    # A service manager signals every process; the API process decides when this one ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=file_descriptor)
    Thread(target=_end_with, args=[connection], daemon=True).start()
    try:
        return _work(Channel(connection))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0
    except FrameError as error:
        logger.error("lost the API process: %s", error)
        return 1


def _end_with(connection: socket.socket) -> None:
    """End this process when the other side is gone, even amid loading or a step."""
    poll = select.poll()
    poll.register(connection, 0)  # a hang-up is reported without being asked for
    poll.poll()
    os._exit(0)


def _work(channel: Channel) -> int:
    frames: list[ToWorker] = []
    while not frames:
        frames = channel.receive(wait=None)
    first, *others = frames
    if not isinstance(first, LoadModel):
        raise FrameError("the first frame is not what to load")
    if engine := _load(first, channel):
        engine.before_forward = channel.announce
        try:
            _serve(engine, channel, others)
        except (EOFError, ConnectionError, FrameError):
            raise
        except Exception as error:  # outside any request: what the engine knows may be wrong now
            logger.exception("the engine failed")
            channel.send(Failed(message=_in_one_line(error)))
    return 1


def _load(load: LoadModel, channel: Channel) -> Engine | None:
    logging.basicConfig(level=load.log_level.upper(), format="stride worker: %(message)s")
    transformers_logging.disable_progress_bar()
    try:
        engine, info = load_engine(Path(load.directory), load.name, load.options)
    except Exception as error:  # whatever transformers and torch make of a broken model
        logger.debug("loading failed", exc_info=True)
        channel.send(Failed(message=f"cannot serve {load.name}: {_in_one_line(error)}"))
        return None
    # What loading left behind stays: looking through all of it for garbage would stop the engine
    # for tens of milliseconds every now and then.
    gc.collect()
    gc.freeze()
    channel.send(Ready(engine=info))
    return engine


def _in_one_line(error: Exception) -> str:
    is_for_users = isinstance(error, OSError | ValueError)
    text = str(error) if is_for_users else f"{type(error).__name__}: {error}"
    return textwrap.shorten(text, _LONGEST_REASON, placeholder=" …")


def _serve(engine: Engine, channel: Channel, frames: list[ToWorker]) -> None:
    while True:
        refusals: list[Output] = []
        for frame in frames:
            if isinstance(frame, Submit):
                refusals += _add(engine, frame.request)
            elif isinstance(frame, Abort):
                engine.abort(frame.request_id)
        if engine.has_work or frames:  # without work, too: an abort leaves a load to be reported
            report = engine.step()
            report.outputs += refusals
            channel.send(Stepped(report=report))
        else:
            channel.send(Beat())
        frames = channel.receive(wait=0 if engine.has_work else BEAT_SECONDS)


def _add(engine: Engine, request: Request) -> list[Output]:
    """Queue a request; what to answer if it cannot be."""
    try:
        engine.add(request)
    except Exception as error:  # one request never harms the others
        logger.error("request %s refused: %s", request.id, error)
        return [
            Output(request_id=request.id, index=i, finish_reason="error", error=str(error))
            for i in range(request.n)
        ]
    return []


if __name__ == "__main__":
    os.nice(_NICENESS)
    sys.exit(main(int(sys.argv[1])))
