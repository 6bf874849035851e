"""A program: answers without a server, one prompt a line of standard input.

``python -m benchmarks.in_process stride|generate DIRECTORY`` loads the model in a process of its
own, so that the thread pools of contestants never meet.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Protocol

import msgspec
import torch
from msgspec import Struct
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from benchmarks.timing import Timing
from decoding.load import load_engine
from decoding.options import DTypeName, LoadOptions
from decoding.request import Request, Sampling, Stopping


class Question(Struct, frozen=True):
    """A line of standard input."""

    prompt: str
    num_tokens: int


class Answerer(Protocol):
    """Answers greedily, with exactly as many tokens as asked."""

    def answer(self, question: Question) -> Timing:
        """Answer, with the clock running from before the prompt is tokenised."""


class StrideEngine:
    """Stride's engine, stepped in a loop; with its defaults but for a number format."""

    def __init__(self, directory: Path, dtype: DTypeName = "auto") -> None:
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._engine, _ = load_engine(directory, directory.name, LoadOptions(dtype=dtype))

    def answer(self, question: Question) -> Timing:
        """Answer one question; text is produced too, as it is for a client."""
        started = perf_counter()
        self._engine.add(self._request(question))
        times: list[float] = []
        tokens: list[int] = []
        text = ""
        while self._engine.has_work:
            for output in self._engine.step().outputs:
                times.append(perf_counter() - started)
                text += output.text
                tokens += output.tokens
        return timing(times, text, tokens)

    def _request(self, question: Question) -> Request:
        return Request(
            id="benchmark",
            prompt=tuple(self._tokenizer.encode(question.prompt).ids),
            stopping=Stopping(max_tokens=question.num_tokens, ignore_eos=True),
            sampling=Sampling(temperature=0.0),
        )


class TransformersGenerate:
    """``model.generate`` in bfloat16, else with its defaults: sdpa attention, dynamic cache."""

    def __init__(self, directory: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
        self._model.generation_config.eos_token_id = None  # so that every answer is equally long

    def answer(self, question: Question) -> Timing:
        """Answer one question."""
        started = perf_counter()
        prompt = torch.tensor([self._tokenizer.encode(question.prompt).ids])
        clock = Clock(started)
        ids = self._model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=question.num_tokens,
            streamer=clock,
        )
        tokens = ids[0, prompt.shape[1] :].tolist()
        return timing(clock.times, self._tokenizer.decode(tokens), tokens)


class Clock:
    """A streamer for ``generate`` that notes when each token came."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._is_prompt = True
        self.times: list[float] = []

    def put(self, tokens: object) -> None:
        """Note the time; the first call brings the prompt."""
        if not self._is_prompt:
            self.times.append(perf_counter() - self._started)
        self._is_prompt = False

    def end(self) -> None:
        """Nothing is left to do."""


def timing(times: list[float], text: str, tokens: list[int]) -> Timing:
    """The timing of an answer whose news came at these times."""
    return Timing(
        first=times[0], last=times[-1], num_tokens=len(tokens), text=text, tokens=tuple(tokens)
    )


KINDS: dict[str, Callable[[Path], Answerer]] = {
    "stride": StrideEngine,
    "stride-bf16": partial(StrideEngine, dtype="bf16"),
    "generate": TransformersGenerate,
}


def main(kind: str, directory: Path) -> None:
    """Load, say so with an empty line, then answer line by line."""
    # Libraries may print; only answers belong on what the benchmark reads.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    answerer = KINDS[kind](directory)
    replies.write(b"\n")
    for line in sys.stdin.buffer:
        question = msgspec.json.decode(line, type=Question)
        replies.write(msgspec.json.encode(answerer.answer(question)) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
