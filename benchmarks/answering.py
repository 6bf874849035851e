"""Stride's engine in this process, one request at a time, greedy, nothing kept between requests."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from benchmarks.replay import Replay
from decoding.load import load_engine
from decoding.options import Limits, LoadOptions
from decoding.request import OptionValue, Reference, Request, Sampling, Stopping
from server.tokenizer import Tokenizer
from server.worker import MEMORY


class Answer(NamedTuple):
    """What a request was answered, and what it took.

    ``seconds`` is from the request to its end, ``decode_seconds`` from its first news on.
    """

    tokens: tuple[int, ...]
    forwards: int
    drafted: int
    seconds: float
    decode_seconds: float

    @property
    def replay(self) -> Replay:
        """The same as a replay would report it."""
        return Replay(len(self.tokens), self.forwards, self.drafted)


class Answerer:
    """An engine and its tokenizer."""

    def __init__(self, directory: Path) -> None:
        options = LoadOptions(limits=Limits(prefix_cache=False))
        self.engine, _ = load_engine(directory, directory.name, options)
        self.tokenizer = Tokenizer(PreTrainedTokenizerFast.from_pretrained(directory))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of an answer, without the token that ended it."""
        return self.tokenizer.decode([token for token in tokens if token not in self.engine.eos])

    def answer(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        strategy: str,
        references: Sequence[Reference] = (),
        options: dict[str, OptionValue] | None = None,
    ) -> Answer:
        """Answer one prompt."""
        request = Request(
            id="benchmark",
            prompt=tuple(prompt),
            stopping=Stopping(max_tokens=max_tokens),
            sampling=Sampling(temperature=0.0),
            strategy=strategy,
            options=options or {},
            references=tuple(references),
        )
        started = perf_counter()
        self.engine.add(request)
        tokens: list[int] = []
        times: list[float] = []
        forwards = drafted = 0
        while self.engine.has_work:
            for output in self.engine.step().outputs:
                times.append(perf_counter())
                tokens += output.tokens
                forwards += output.steps
                drafted += output.drafted
        return Answer(tuple(tokens), forwards, drafted, times[-1] - started, times[-1] - times[0])


def use_memory_as_a_worker_does() -> None:
    """Start this program again with a worker's environment: the C library reads it only then."""
    if any(os.environ.get(name) != value for name, value in MEMORY.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **MEMORY})
