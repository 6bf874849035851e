"""Stride's engine in this process, one request at a time, greedy, nothing kept between requests."""

import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Self

import tokenizers
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from benchmarks.replay import Replay
from decoding.engine import Engine
from decoding.load import load_engine, new_engine
from decoding.models import DEFAULT_MODEL, progress_on, resolve
from decoding.options import Limits, LoadOptions, default_cache_dir
from decoding.request import OptionValue, Reference, Request, Sampling, SourceCounts, Stopping
from server.tokenizer import Tokenizer
from server.worker import ENVIRONMENT

_OPTIONS = LoadOptions(limits=Limits(prefix_cache=False))


class Answer(NamedTuple):
    """What a request was answered, and what it took.

    ``seconds`` is from the request to its end, ``decode_seconds`` from its first news on.
    """

    tokens: tuple[int, ...]
    forwards: int
    drafted: int
    sources: Mapping[str, SourceCounts]
    seconds: float
    decode_seconds: float

    @property
    def replay(self) -> Replay:
        """The same as a replay would report it."""
        return Replay(len(self.tokens), self.forwards, self.drafted)


class Answerer:
    """An engine and its tokenizer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.engine, _ = load_engine(directory, directory.name, _OPTIONS)
        self.tokenizer = Tokenizer(PreTrainedTokenizerFast.from_pretrained(directory))
        self._engines_tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))

    @classmethod
    def of_the_default_model(cls, console: Console) -> "Answerer":
        """Load what the server serves by default, fetched and converted if need be."""
        progress = progress_on(console)
        return cls(resolve(DEFAULT_MODEL, cache=default_cache_dir(), progress=progress).directory)

    def start_afresh(self) -> None:
        """Forget all that earlier requests have taught the engine: costs, worth of drafts, rows."""
        self.engine = new_engine(self.engine.runner, self._directory, _OPTIONS)

    def afresh(self) -> Self:
        """The same model, by an engine of its own that has everything yet to learn."""
        other = copy(self)
        other.start_afresh()
        return other

    def unpriced(self, limits: Limits) -> Engine:
        """An engine that knows nothing of prices or of others: it verifies all that is proposed."""
        return Engine(
            self.engine.runner,
            tokenizer=self._engines_tokenizer,
            eos=self.engine.eos,
            limits=limits,
        )

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
        request = asking("benchmark", prompt, max_tokens, strategy, options or {}, references)
        started = perf_counter()
        self.engine.add(request)
        tokens: list[int] = []
        times: list[float] = []
        sources: defaultdict[str, SourceCounts] = defaultdict(SourceCounts)
        forwards = drafted = 0
        while self.engine.has_work:
            for output in self.engine.step().outputs:
                times.append(perf_counter())
                tokens += output.tokens
                forwards += output.steps
                drafted += output.drafted
                for source, counts in output.sources.items():
                    sources[source].add(counts)
        seconds, decode_seconds = times[-1] - started, times[-1] - times[0]
        return Answer(tuple(tokens), forwards, drafted, sources, seconds, decode_seconds)


def asking(
    name: str,
    prompt: Sequence[int],
    max_tokens: int,
    strategy: str,
    options: Mapping[str, OptionValue],
    references: Sequence[Reference] = (),
    salt: str = "",
) -> Request:
    """A greedy request; ``salt`` names the tenant."""
    return Request(
        id=name,
        prompt=tuple(prompt),
        stopping=Stopping(max_tokens=max_tokens),
        sampling=Sampling(temperature=0.0),
        strategy=strategy,
        options=dict(options),
        references=tuple(references),
        cache_salt=salt,
    )


def run_as_a_worker_does() -> None:
    """Start this program again with a worker's environment: libraries read it only then."""
    if not ENVIRONMENT.keys() <= os.environ.keys():
        os.execve(sys.executable, sys.orig_argv, {**ENVIRONMENT, **os.environ})
