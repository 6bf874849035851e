"""The command: sweeps, prints, and writes ``docs/benchmarks/sweeps.md`` and its pictures."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.answering import Answerer, run_as_a_worker_does
from benchmarks.sweeps import copying, jacobi, lookahead, skeleton
from benchmarks.sweeps.page import PAGE, PICTURES, Findings, page, pictures
from benchmarks.sweeps.projection import Projection, measured_curve
from benchmarks.sweeps.questions import PROMPTS, evenly, open_questions

OPEN_EACH, LISTS_EACH = 2, 3  # of a category

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Sweep the parameters that the papers swept.")
def main(
    forced: Annotated[
        list[Path] | None, typer.Option(help="LLMA's rag.jsonl or cnndm.jsonl.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/.")] = False,
) -> None:
    """Sweep, print, and write if asked to."""
    run_as_a_worker_does()
    console = Console(stderr=True)
    answerer = Answerer.of_the_default_model(console)
    with Progress(console=console) as progress:
        found = findings(answerer, forced or [], progress)
    projection = Projection(measured_curve())
    text = page(found, projection)
    print(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")
        for name, picture in pictures(found, projection).items():
            (PICTURES / name).write_text(picture, encoding="utf-8")


def findings(answerer: Answerer, forced: Iterable[Path], progress: Progress) -> Findings:
    """All four sweeps."""
    asked = progress.track(evenly(PROMPTS / "open.jsonl", OPEN_EACH), description="Open questions")
    questions = open_questions(answerer, asked)
    settings = progress.track(lookahead.SETTINGS, description="Lookahead")
    by_window = {s: lookahead.measured(answerer, questions.questions, s) for s in settings}
    blocks = progress.track(jacobi.SETTINGS, description="Jacobi")
    by_block = {b: jacobi.measured(answerer, questions.questions, b) for b in blocks}
    asked = progress.track(copying.conversations(), description="Texts that repeat others")
    texts = [*copying.own_texts(answerer, asked)]
    texts += [copying.forced_texts(answerer, path) for path in forced]
    replays = progress.track(texts, description="LLMA")
    copied = [(each, copying.swept(each)) for each in replays]
    lists = evenly(PROMPTS / "lists.jsonl", LISTS_EACH)
    points = list(skeleton.asked(answerer, progress.track(lists, description="List questions")))
    limits = progress.track(skeleton.POINTS, description="Skeleton-of-thought")
    by_points = {limit: skeleton.measured(answerer, points, limit) for limit in limits}
    return Findings(questions, by_window, by_block, copied, points, by_points)


if __name__ == "__main__":
    app()
