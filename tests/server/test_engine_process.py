"""The worker's loop, over an engine that only does what a test says."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from facts import engine_info

from decoding.options import LoadOptions
from decoding.report import StepReport
from decoding.request import Request, Stopping
from server import engine_process
from server.engine_process import Channel
from server.frames import (
    Beat,
    Failed,
    FrameReader,
    FromWorker,
    LoadModel,
    Ready,
    Stepped,
    Submit,
    encode,
)

REQUEST = Request(id="x", prompt=(1,), stopping=Stopping(max_tokens=1))


class StubEngine(SimpleNamespace):
    """Has work from the first request on, until its step says otherwise."""

    def __init__(self, step: Callable[["StubEngine"], StepReport]) -> None:
        super().__init__(has_work=False, before_forward=None)
        self._step = step

    def add(self, request: Request) -> None:
        self.has_work = True

    def step(self) -> StepReport:
        return self._step(self)


class Served:
    """The other end of a worker whose engine is a stub."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: Callable[..., StepReport]) -> None:
        def load(frame: LoadModel, channel: Channel) -> Any:
            channel.send(Ready(engine=engine_info()))
            return StubEngine(step)

        monkeypatch.setattr(engine_process, "_load", load)
        self._ours, self._theirs = socket.socketpair()
        self._ours.settimeout(20)
        self._reader: FrameReader[FromWorker] = FrameReader(FromWorker)
        self._frames: list[FromWorker] = []
        self._thread = Thread(target=self._work)
        self._thread.start()
        self.send(LoadModel(directory="", name="", options=LoadOptions()))

    def _work(self) -> None:
        with self._theirs, suppress(EOFError):
            engine_process._work(Channel(self._theirs))

    def send(self, frame: LoadModel | Submit) -> None:
        self._ours.sendall(encode(frame))

    def next(self) -> FromWorker:
        while not self._frames:
            received = self._ours.recv(1 << 16)
            if not received:
                raise EOFError
            self._frames += self._reader.feed(received)
        return self._frames.pop(0)

    def close(self) -> None:
        self._ours.close()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    served: list[Served] = []

    def begin(step: Callable[[StubEngine], StepReport]) -> Served:
        served.append(Served(monkeypatch, step))
        assert isinstance(served[-1].next(), Ready)
        return served[-1]

    yield begin
    for each in served:
        each.close()


def report(engine: StubEngine) -> StepReport:
    engine.has_work = False
    return StepReport(outputs=[])


def test_an_idle_loop_beats(serve: Callable[..., Served]) -> None:
    served = serve(report)
    assert [served.next() for _ in range(2)] == [Beat(), Beat()]


def test_a_long_forward_is_announced_and_a_short_one_is_not(serve: Callable[..., Served]) -> None:
    def step(engine: StubEngine) -> StepReport:
        if engine.has_work:
            engine.before_forward(0.05)
            engine.before_forward(2.5)
        return report(engine)

    served = serve(step)
    served.send(Submit(REQUEST))
    frames = [served.next() for _ in range(5)]
    announced = frames.index(Beat(2.5))
    assert isinstance(frames[announced + 1], Stepped)
    assert Beat(0.05) not in frames


def test_an_error_outside_any_request_is_reported_before_the_end(
    serve: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    def step(engine: StubEngine) -> StepReport:
        if engine.has_work:
            raise RuntimeError("the books do not balance")
        return report(engine)

    served = serve(step)
    served.send(Submit(REQUEST))
    frames: list[FromWorker] = []
    with caplog.at_level(logging.ERROR), pytest.raises(EOFError):
        while True:
            frames.append(served.next())
    assert frames[-1] == Failed("RuntimeError: the books do not balance")
    assert "the engine failed" in caplog.messages
