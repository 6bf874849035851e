"""``python -m benchmarks.router.measure``: what the router gets right, and how long it takes.

``--labelled`` takes public sets in the layout of Skeleton-of-Thought's ``router.csv``. ``--write``
writes ``docs/benchmarks/router.md``.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Annotated

import numpy as np
import typer

from benchmarks.processes import ROOT
from benchmarks.router.page import Latency, Measured, judged, page, public_figures
from benchmarks.router.questions import own, public
from server.router import Router, default_router

PAGE = ROOT / "docs" / "benchmarks" / "router.md"
ROUNDS = 9
LONG_PROMPT = 100_000  # characters

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Measure the router.")
def main(
    labelled: Annotated[
        list[Path] | None, typer.Option(help="A CSV file of label;request, 1 for a list.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/.")] = False,
) -> None:
    """Measure, print, and write if asked to."""
    router = default_router()
    questions = own("test")
    measured = Measured(
        judged=judged(router, questions),
        public={file.stem: public_figures(router, public(file)) for file in labelled or []},
        latency=latency(router, [question.text for question in questions]),
    )
    text = page(measured)
    print(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


def latency(router: Router, texts: Sequence[str]) -> Latency:
    """How long a judgement takes."""
    times = [microseconds(router, text) for text in texts]
    joined = "\n".join(texts)
    long_prompt = (joined * (LONG_PROMPT // len(joined) + 1))[:LONG_PROMPT]
    return Latency(
        median=median(times),
        p99=float(np.percentile(times, 99)),
        long_prompt=microseconds(router, long_prompt),
    )


def microseconds(router: Router, text: str) -> float:
    """The time of one judgement: the median of several, for other processes get in between."""
    times = []
    for _ in range(ROUNDS):
        started = perf_counter_ns()
        router.judge(text)
        times.append(perf_counter_ns() - started)
    return median(times) / 1000


if __name__ == "__main__":
    app()
