"""A worker without an engine: it answers at once, until it does what its script says.

``SCRIPT`` is "deed@count": what to do once so many tokens are said; with 0, while it loads.
"""

import os
import select
import signal
import socket
import sys
import time

from facts import engine_info

from decoding.report import StepReport
from decoding.request import Output, Request
from server.frames import (
    Abort,
    Beat,
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
from server.heartbeat import BEAT_SECONDS

STEP_SECONDS = 0.002


def token_of(request: Request, number: int) -> int:
    """What is said next depends on nothing but the request, as with an engine."""
    return (sum(request.prompt) + request.sampling.seed + number) % 200


class ScriptedWorker:
    def __init__(self, connection: socket.socket, deed: str, count: int) -> None:
        self._connection = connection
        self._reader: FrameReader[ToWorker] = FrameReader(ToWorker)
        self._requests: dict[str, list[int]] = {}
        self._asked: dict[str, Request] = {}
        self._deed = deed
        self._tokens_left = count

    def work(self) -> None:
        while True:
            frames = self._receive()
            for frame in frames:
                self._handle(frame)
            if self._asked or frames:
                self._step()
            else:
                self._send(Beat())

    def _receive(self) -> list[ToWorker]:
        if not select.select([self._connection], [], [], 0 if self._asked else BEAT_SECONDS)[0]:
            return []
        received = self._connection.recv(1 << 20)
        if not received:
            sys.exit(0)
        return self._reader.feed(received)

    def _send(self, frame: FromWorker) -> None:
        self._connection.sendall(encode(frame))

    def _handle(self, frame: ToWorker) -> None:
        if isinstance(frame, LoadModel):
            if not self._tokens_left:
                self._do()
            self._send(Ready(engine=engine_info()))
        elif isinstance(frame, Submit):
            self._asked[frame.request.id] = frame.request
            self._requests[frame.request.id] = [0] * frame.request.n
        elif isinstance(frame, Abort):
            self._asked.pop(frame.request_id, None)

    def _step(self) -> None:
        outputs = [
            self._said(request, index)
            for request in list(self._asked.values())
            for index in range(request.n)
        ]
        self._send(Stepped(StepReport(outputs=outputs, running=len(self._asked), sequences=1)))
        time.sleep(STEP_SECONDS)

    def _said(self, request: Request, index: int) -> Output:
        number = self._requests[request.id][index]
        self._requests[request.id][index] += 1
        self._tokens_left -= 1
        if self._tokens_left == 0:
            self._do()
        is_last = number + 1 == request.stopping.max_tokens
        if is_last and index == request.n - 1:
            del self._asked[request.id]
        token = token_of(request, number) + index
        return Output(
            request_id=request.id,
            index=index,
            tokens=(token,),
            text=chr(256 + token),
            steps=1,
            finish_reason="length" if is_last else None,
        )

    def _do(self) -> None:
        match self._deed:
            case "exit":
                os._exit(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "garbage":
                self._connection.sendall(b"\xff" * 100)
            case "hang_up":
                self._connection.close()
                time.sleep(100)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "spin":
                while True:
                    pass
            case "fail":
                self._send(Failed("the engine is broken"))
                sys.exit(1)


if __name__ == "__main__":
    deed, _, count = os.environ["SCRIPT"].partition("@")
    ScriptedWorker(socket.socket(fileno=int(sys.argv[1])), deed, int(count or -1)).work()
