"""Who is measured: one small class each, all with the same few methods."""

import asyncio
import json
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import httpx
import msgspec

from benchmarks import llama_cpp
from benchmarks.processes import ChildProcess, ContestantFailed, python, threads
from benchmarks.streaming import Address, stream_all
from benchmarks.timing import Timing
from benchmarks.workloads import MOST_STREAMS
from decoding.models import ModelError, Progress
from server.worker import ENVIRONMENT

ENGINE = "Stride, engine in-process"
STRIDE = "Stride over HTTP"
STRIDE_BF16 = "Stride in bf16 over HTTP"
LLAMA_CPP = f"llama.cpp in 4 bits ({llama_cpp.QUANTISATION}), over HTTP"
GENERATE = "transformers generate, in-process"
TRANSFORMERS = "transformers serve --continuous-batching, over HTTP"

_SECONDS_TO_START = 240.0


class Contestant(Protocol):
    """Something that answers prompts; frozen whenever it is not its turn."""

    name: str
    takes_groups: bool  # whether it can be asked several prompts at once

    def start(self) -> None:
        """Load the model, then freeze. Raises ContestantFailed."""

    def stop(self) -> None:
        """Give everything back."""

    def thaw(self) -> None:
        """Begin a turn."""

    def freeze(self) -> None:
        """End a turn."""

    def answer(self, prompts: Sequence[str], new_tokens: int) -> list[Timing]:
        """Answer all prompts at once, greedily and without stopping. Raises ContestantFailed."""


class Child:
    """What contestants in a process of their own have in common."""

    def __init__(self) -> None:
        self._process: ChildProcess | None = None

    @property
    def process(self) -> ChildProcess:
        """The process, once started."""
        if self._process is None:
            raise ContestantFailed("not started")
        return self._process

    def stop(self) -> None:
        """Give everything back."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def thaw(self) -> None:
        """Begin a turn."""
        self.process.thaw()

    def freeze(self) -> None:
        """End a turn."""
        self.process.freeze()


class InProcess(Child):
    """A library without a server, in a child process."""

    takes_groups = False

    def __init__(
        self,
        name: str,
        kind: str,
        directory: Path,
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.name = name
        self._command = python("-m", "benchmarks.in_process", kind, str(directory))
        self._extra = extra

    def start(self) -> None:
        """Load the model, then freeze."""
        self._process = ChildProcess(self._command, talks=True, extra=self._extra)
        self._process.read_line()
        self.freeze()

    def answer(self, prompts: Sequence[str], new_tokens: int) -> list[Timing]:
        """Answer one prompt."""
        (prompt,) = prompts
        question = json.dumps({"prompt": prompt, "num_tokens": new_tokens})
        return [msgspec.json.decode(self.process.exchange(question.encode()), type=Timing)]


class Server(Child):
    """A server of OpenAI's API, reached as its users reach it."""

    takes_groups = True
    health = "/health"

    def __init__(self, name: str, model: str) -> None:
        super().__init__()
        self.name = name
        self._model = model
        self._port = free_port()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def address(self) -> Address:
        """Where its API is."""
        return Address("127.0.0.1", self._port)

    @property
    def model(self) -> str:
        """The name of what it serves."""
        return self._model

    def command(self, port: int) -> list[str]:
        """What starts it."""
        raise NotImplementedError

    def fields(self, new_tokens: int) -> Mapping[str, Any]:
        """How its dialect asks for greedy answers that do not stop early."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it is ready, then freeze."""
        self._process = ChildProcess(self.command(self._port))
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._is_ready():
            if self._process.has_ended or time.monotonic() > deadline:
                raise ContestantFailed(self._process.last_words())
            time.sleep(0.2)
        self.freeze()

    def answer(self, prompts: Sequence[str], new_tokens: int) -> list[Timing]:
        """Answer all prompts at once, streaming."""
        body = {"model": self._model, "stream": True, "max_tokens": new_tokens}
        body |= self.fields(new_tokens)
        bodies = [body | {"prompt": prompt} for prompt in prompts]
        try:
            return asyncio.run(stream_all("127.0.0.1", self._port, bodies))
        except (OSError, ValueError, LookupError, TimeoutError) as error:
            raise ContestantFailed(f"{type(error).__name__}: {error}") from error

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}{self.health}", timeout=2)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK


class StrideServer(Server):
    """``stride serve`` with its defaults, but for the options given."""

    health = "/ready"

    def __init__(self, name: str, directory: Path, *options: str) -> None:
        super().__init__(name, directory.name)
        self._options = ["--model", str(directory), *options]

    def command(self, port: int) -> list[str]:
        """What starts it."""
        return python("-m", "server.cli", "serve", *self._options, "--port", str(port))

    def fields(self, new_tokens: int) -> Mapping[str, Any]:
        """How to ask for greedy answers that do not stop early."""
        return {"temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}


class TransformersServer(Server):
    """``transformers serve``, its options at their defaults but for one.

    By default the cache of continuous batching takes nine tenths of all memory the machine has,
    whoever else uses it, and the kernel ends the run; a quarter leaves room for a hundred of our
    longest prompts.
    """

    def __init__(
        self, directory: Path, name: str = TRANSFORMERS, *, continuous_batching: bool = True
    ) -> None:
        super().__init__(name, str(directory))
        self._batching = ["--continuous-batching", "--cb-max-memory-percent", "0.25"]
        if not continuous_batching:
            self._batching = []

    def command(self, port: int) -> list[str]:
        """What starts it: its console script, whose module has no other name to run it by."""
        script = "from transformers.cli.transformers import main; main()"
        options = [*self._batching, "--device", "cpu", "--dtype", "bfloat16"]
        where = ["--host", "127.0.0.1", "--port", str(port)]
        return python("-c", script, "serve", *options, *where, self._model)

    def fields(self, new_tokens: int) -> Mapping[str, Any]:
        """How to ask for greedy answers that do not stop early: no token has the id -1."""
        config = {"do_sample": False, "eos_token_id": -1, "max_new_tokens": new_tokens}
        return {"generation_config": json.dumps(config)}


class LlamaCppServer(Server):
    """llama.cpp's own server, installed by the first start that needs it.

    ``speculation`` is how it guesses, in its own words (``--spec-type``). One that ``remembers``
    keeps what it has read and answered, as is its default.
    """

    def __init__(
        self,
        cache: Path,
        progress: Progress,
        name: str = LLAMA_CPP,
        *,
        speculation: str = "none",
        remembers: bool = False,
    ) -> None:
        super().__init__(name, "default")
        self._cache = cache
        self._progress = progress
        self._modes = [speculation, *(["remembers"] if remembers else [])]

    def command(self, port: int) -> list[str]:
        """What starts it: a program of ours, run by the Python that has llama.cpp."""
        try:
            interpreter = llama_cpp.install(self._cache, self._progress)
            gguf = llama_cpp.fetch_gguf(self._cache, self._progress)
        except (ModelError, OSError) as problem:
            raise ContestantFailed(str(problem)) from problem
        # -P: the modules beside the program are ours, and not for that Python.
        program = [str(interpreter), "-P", str(llama_cpp.SERVER), str(gguf)]
        return [*program, *map(str, (port, threads(), MOST_STREAMS)), *self._modes]

    def fields(self, new_tokens: int) -> Mapping[str, Any]:
        """How to ask for greedy answers that do not stop early; usage comes unasked."""
        return {"temperature": 0, "ignore_eos": True, "cache_prompt": False}


def all_contestants(directory: Path, cache: Path, progress: Progress) -> tuple[Contestant, ...]:
    """Everyone, in the order of their turns: the compared ones near each other."""
    return (
        InProcess(ENGINE, "stride", directory, ENVIRONMENT),
        StrideServer(STRIDE, directory),
        LlamaCppServer(cache, progress),
        TransformersServer(directory),
        InProcess(GENERATE, "generate", directory),
        StrideServer(STRIDE_BF16, directory, "--dtype", "bf16"),
    )


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
