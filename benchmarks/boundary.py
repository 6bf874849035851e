"""``python -m benchmarks.boundary``: what HTTP and a process of its own cost one stream.

The same engine in-process and behind ``stride serve``, alternating, in bf16 and in int8.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.contestants import ENGINE, STRIDE, InProcess, StrideServer
from benchmarks.report import spread_text, table
from benchmarks.timing import decode_speed
from benchmarks.workloads import QUESTIONS
from decoding.models import DEFAULT_MODEL, progress_on, resolve
from decoding.options import default_cache_dir
from server.worker import ENVIRONMENT

ROUNDS, NEW_TOKENS = 9, 128


def main() -> None:
    """Measure and print."""
    progress = progress_on(Console(stderr=True))
    directory = resolve(DEFAULT_MODEL, cache=default_cache_dir(), progress=progress).directory
    rows = [
        measured("bf16", directory, "stride-bf16", ("--dtype", "bf16")),
        measured("int8", directory, "stride", ()),
    ]
    print(table(["", "in-process, tokens/s", "over HTTP, tokens/s", "HTTP ÷ in-process"], rows))


def measured(title: str, directory: Path, kind: str, options: Sequence[str]) -> list[str]:
    """A row of the table: medians, and the ratio of neighbouring samples."""
    inside = InProcess(ENGINE, kind, directory, ENVIRONMENT)
    outside = StrideServer(STRIDE, directory, *options)
    try:
        inside.start()
        outside.start()
        pairs = [(speed(inside, i), speed(outside, i)) for i in range(ROUNDS + 1)][1:]
    finally:
        inside.stop()
        outside.stop()
    ratios = [over / without for without, over in pairs]
    medians = [f"{median(column):.1f}" for column in zip(*pairs, strict=True)]
    return [title, *medians, spread_text(ratios, "{:.2f}", "×")]


def speed(contestant: InProcess | StrideServer, number: int) -> float:
    """Tokens a second of one answer, everybody else frozen."""
    contestant.thaw()
    try:
        prompt = f"{number} {QUESTIONS[number % len(QUESTIONS)]}"
        contestant.answer([prompt], 4)
        return decode_speed(contestant.answer([prompt], NEW_TOKENS))
    finally:
        contestant.freeze()


if __name__ == "__main__":
    main()
