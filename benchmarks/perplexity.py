"""``python -m benchmarks.perplexity``: what a number format costs in quality.

Perplexity of the default model on a text in the public domain, in windows of 512 tokens, by
transformers' own code in bfloat16 and by our kernels in every format. ``--write`` writes
``docs/benchmarks/perplexity.md``.
"""

import math
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks import machine
from benchmarks.processes import ROOT
from benchmarks.report import table
from decoding.load import load_model
from decoding.models import DEFAULT_MODEL, progress_on, resolve
from decoding.native.computation import NativeComputation
from decoding.native.library import library
from decoding.options import Format, default_cache_dir
from decoding.runner import BLOCK_SIZE, Runner
from decoding.segment import Segment

PAGE = ROOT / "docs" / "benchmarks" / "perplexity.md"
TEXT = Path(__file__).parent / "texts" / "alice.txt"
WINDOW = 512
REFERENCE = "transformers, bfloat16"
MOST = 0.01  # more perplexity than the reference, and int8 is not the default

Logits = Callable[[list[int]], Tensor]  # of a window of tokens: [tokens, vocabulary]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Measure what a number format costs in perplexity.")
def main(
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/.")] = False,
) -> None:
    """Measure, print, and write if asked to."""
    directory = resolve(
        DEFAULT_MODEL, cache=default_cache_dir(), progress=progress_on(Console(stderr=True))
    ).directory
    text = report(directory)
    print(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


def report(directory: Path) -> str:
    """The page."""
    windows = list(windows_of(directory))
    found = {name: perplexity(logits, windows) for name, logits in contestants(directory)}
    reference = found[REFERENCE]
    rows = [
        [name, f"{value:.3f}", f"{value / reference - 1:+.2%}"] for name, value in found.items()
    ]
    more = found["Stride, int8"] / reference - 1
    command = shlex.join(["python", "-m", "benchmarks.perplexity", *sys.argv[1:]])
    return (
        "\n\n".join(
            [
                "# What a number format costs in quality",
                f"Measured with `{command}`, which also writes this page:"
                f" SmolLM2-135M-Instruct on {len(windows) * WINDOW:,}"
                " tokens of *Alice's Adventures in Wonderland*"
                f" (`benchmarks/texts`), in windows of {WINDOW} tokens.",
                table(["", "perplexity", "against transformers"], rows),
                f"int8 is the default on CPUs with instructions for it if it costs at most"
                f" {MOST:.0%}: it costs {more:.2%}.",
                table(["", ""], [[name, value] for name, value in machine.facts().items()]),
            ]
        )
        + "\n"
    )


def windows_of(directory: Path) -> Iterator[list[int]]:
    """The text in whole windows of token ids."""
    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode(TEXT.read_text()).ids
    for start in range(0, len(ids) - WINDOW + 1, WINDOW):
        yield ids[start : start + WINDOW]


def contestants(directory: Path) -> Iterator[tuple[str, Logits]]:
    """Everyone who computes logits, one after the other."""
    load = partial(load_model, directory, torch.bfloat16, torch.device("cpu"))
    yield REFERENCE, partial(by_transformers, load())
    formats: tuple[Format, ...] = ("fp32", "bf16", "int8")
    for format in formats:
        yield (
            f"Stride, {format}",
            partial(by_runner, Runner(NativeComputation(load(), format, library()), 40)),
        )


@torch.inference_mode()
def by_transformers(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    """The model's own logits."""
    logits: Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0]
    return logits


def by_runner(runner: Runner, tokens: list[int]) -> Tensor:
    """Ours."""
    slots = BLOCK_SIZE + np.arange(len(tokens))
    return runner.forward([Segment(tokens, range(-1, len(tokens) - 1), 0, slots, 0)])


def perplexity(logits_of: Logits, windows: list[list[int]]) -> float:
    """The exponential of the mean surprise at each token of a window but its first."""
    surprise = 0.0
    for window in windows:
        logits = logits_of(window)[:-1].float()
        following = torch.tensor(window[1:])
        surprise += torch.nn.functional.cross_entropy(logits, following, reduction="sum").item()
    return math.exp(surprise / (len(windows) * (WINDOW - 1)))


if __name__ == "__main__":
    app()
