"""The frames between the API process and a worker: msgpack behind a length, never pickle."""

import struct
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from decoding.options import LoadOptions
from decoding.report import EngineInfo, StepReport
from decoding.request import Request

MAX_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct("!I")


class LoadModel(Struct, tag="load_model"):
    """API to worker, first: serve the model in this directory."""

    directory: str
    name: str
    options: LoadOptions
    log_level: str = "info"


class Submit(Struct, tag="submit"):
    """API to worker: answer this request."""

    request: Request


class Abort(Struct, tag="abort"):
    """API to worker: nobody waits for this request any more."""

    request_id: str


class Ready(Struct, tag="ready"):
    """Worker to API, once: the engine is loaded and has checked itself."""

    engine: EngineInfo


class Stepped(Struct, tag="stepped"):
    """Worker to API: what a step produced."""

    report: StepReport


class Beat(Struct, tag="beat"):
    """Worker to API: the engine's loop turned, and will again in about so many seconds."""

    seconds: float = 0.0


class Failed(Struct, tag="failed"):
    """Worker to API, last words: why the engine cannot serve."""

    message: str


ToWorker = LoadModel | Submit | Abort
FromWorker = Ready | Stepped | Beat | Failed
_encoder = msgspec.msgpack.Encoder()


class FrameError(ValueError):
    """The other side sent something that is not one of our frames."""


def encode(frame: ToWorker | FromWorker) -> bytes:
    """The frame as it goes over the socket.

    Raises:
        FrameError: the other side would refuse it.
    """
    try:
        payload = _encoder.encode(frame)
    except UnicodeEncodeError as error:  # half a surrogate pair
        raise FrameError(f"not a frame: {error}") from error
    _check_length(len(payload))
    return _LENGTH.pack(len(payload)) + payload


Frame = TypeVar("Frame")


class FrameReader(Generic[Frame]):
    """Cuts a byte stream into frames of the given union of types.

    Raises (from ``feed``):
        FrameError: a frame is longer than ``MAX_FRAME_BYTES`` (refused unallocated) or malformed.
    """

    def __init__(self, frame_type: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(frame_type)
        self._buffer = bytearray()

    def feed(self, received: bytes) -> list[Frame]:
        """Take what was received; returns the frames that it completes."""
        self._buffer += received
        return list(self._complete_frames())

    def _complete_frames(self) -> Iterator[Frame]:
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            _check_length(length)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield self._decode(payload)

    def _decode(self, payload: bytes) -> Frame:
        try:
            return self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"a malformed frame: {error}") from error


def _check_length(length: int) -> None:
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes is over {MAX_FRAME_BYTES}")
