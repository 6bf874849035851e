"""``python -m benchmarks.plain``: plain decoding against other engines, in alternating turns.

One turn is one group of prompts; whoever does not have the turn is frozen. Results are printed;
``--write`` puts them into docs/.
"""

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from benchmarks import llama_cpp, machine
from benchmarks.comparisons import Agreement, agreement
from benchmarks.contestants import ENGINE, all_contestants
from benchmarks.processes import ROOT
from benchmarks.report import Report, as_json, between_markers, markdown
from benchmarks.rounds import Benchmark
from benchmarks.timing import Timing
from benchmarks.workloads import QUICK, Size, Workloads
from decoding.models import DEFAULT_MODEL, progress_on, resolve
from decoding.models.progress import Lines
from decoding.options import default_cache_dir

PAGE = ROOT / "docs" / "benchmarks.md"
JSON = ROOT / "docs" / "benchmarks" / "plain.json"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Measure plain decoding against other engines, in alternating turns.")
def main(
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often everything is asked [5; quick: 1].")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short answers, to try it.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/.")] = False,
) -> None:
    """Measure, print, and write if asked to."""
    # Ended from outside, it must still end the processes it froze.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    size = QUICK if quick else Size()
    report = measure(Console(stderr=True), size, rounds or (1 if quick else 5))
    print(markdown(report))
    if write:
        write_results(report)


def measure(console: Console, size: Size, rounds: int) -> Report:
    """Ask everyone everything, in turns."""
    cache = default_cache_dir()
    directory = resolve(DEFAULT_MODEL, cache=cache, progress=progress_on(console)).directory
    # In lines: a bar is on the screen already when a contestant starts.
    contestants = all_contestants(directory, cache, Lines(console))
    facts = machine.facts()
    with bars(console) as progress_bars:
        benchmark = Benchmark(contestants, progress_bars)
        benchmark.run(workloads_for(directory, size), rounds)
    return Report(
        facts={
            **facts,
            **llama_cpp.facts(cache),
            "Other load": f"{benchmark.other_load:.0%} of the CPU while measuring",
        },
        command=shlex.join(["python", "-m", "benchmarks.plain", *sys.argv[1:]]),
        contestants=[contestant.name for contestant in contestants],
        samples=benchmark.samples,
        agreements=agreements(benchmark.answers),
        absent=benchmark.absent,
        prompt_tokens=size.prompt_tokens,
    )


def workloads_for(directory: Path, size: Size) -> Workloads:
    """The workloads in the words and the chat template of a model."""
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)

    def render(question: str) -> str:
        messages = [{"role": "user", "content": question}]
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )

    return Workloads(Tokenizer.from_file(str(directory / "tokenizer.json")), render, size)


def agreements(answers: dict[str, list[Timing]]) -> list[Agreement]:
    """How everyone's answers compare with those of Stride's engine."""
    reference = answers.get(ENGINE)
    if reference is None:
        return []
    others = {name: given for name, given in answers.items() if name != ENGINE}
    return [agreement(name, given, reference) for name, given in others.items()]


def bars(console: Console) -> Progress:
    """A bar a round."""
    return Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def write_results(report: Report) -> None:
    """Put the tables into the page, between its markers, and everything into the JSON file."""
    page = between_markers(PAGE.read_text(encoding="utf-8"), markdown(report))
    PAGE.write_text(page, encoding="utf-8")
    JSON.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(report), indent=2, ensure_ascii=False)
    JSON.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
