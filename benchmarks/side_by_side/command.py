"""A whole run: what it needs is fetched, turns are taken, findings are written."""

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn
from tokenizers import Tokenizer

from benchmarks import llama_cpp, machine
from benchmarks.plain import bars
from benchmarks.report import command
from benchmarks.side_by_side import sessions
from benchmarks.side_by_side.findings import Findings
from benchmarks.side_by_side.journal import Journal, Tokens, name_of
from benchmarks.side_by_side.results import write
from benchmarks.side_by_side.run import Run, Turn, turns
from benchmarks.side_by_side.servers import servers
from benchmarks.side_by_side.sessions import SHORT, Size, Workload
from benchmarks.side_by_side.ways import Way, all_ways
from decoding.models import DEFAULT_MODEL, ModelError, progress_on, resolve
from decoding.models.progress import Lines
from decoding.options import default_cache_dir

INTERRUPTED, FAILED, MISUSED = 130, 1, 2


class Asked(NamedTuple):
    """What the command line asks for."""

    is_short: bool
    rounds: int
    urls: Mapping[str, str]
    workload: Sequence[Path]
    model: str | None
    only: Sequence[str]
    until: float  # on the monotonic clock
    fresh: bool
    folder: Path


def measure(asked: Asked) -> int:
    """Do it, and return the exit code."""
    # Ended from outside, it must still end the servers it froze.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(stderr=True, soft_wrap=True)
    model = asked.model or DEFAULT_MODEL
    try:
        workload = _workload(asked)
        progress = progress_on(console)
        directory = resolve(model, cache=default_cache_dir(), progress=progress).directory
    except (ModelError, ValueError) as problem:
        console.print(str(problem), style="red", markup=False)
        return FAILED
    ways = _ways(asked)
    if not ways:
        console.print(f"nobody is called {' or '.join(asked.only)}", style="red")
        return MISUSED
    try:
        found = _findings(asked, ways, workload, directory, console)
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on from here.")
        return INTERRUPTED
    for path in write(found, asked.folder):
        console.print(f"Wrote {path}", highlight=False)
    if not found.is_complete:
        console.print("Time was up. The same command goes on from here.")
    return 0


def _workload(asked: Asked) -> Workload:
    size = SHORT if asked.is_short else Size()
    return sessions.given(asked.workload, size) if asked.workload else sessions.own(size)


def _ways(asked: Asked) -> list[Way]:
    ways = all_ways(asked.urls, is_short=asked.is_short and not asked.only)
    if asked.model not in (None, DEFAULT_MODEL):  # the GGUF file has the default model's weights
        ways = [way for way in ways if way.family != "llama.cpp"]
    return [way for way in ways if not asked.only or way.name in asked.only]


def _findings(
    asked: Asked, ways: Sequence[Way], workload: Workload, directory: Path, console: Console
) -> Findings:
    cache = default_cache_dir()
    facts = machine.facts()
    name = name_of(facts["Commit"], directory.name, workload)
    journal = Journal(cache / "benchmarks" / name, fresh=asked.fresh)
    planned = [turn for number in range(asked.rounds) for turn in turns(workload, ways, number)]
    _greet(console, planned, journal)
    with _bars(console) as progress:
        everyone = servers(ways, directory, cache, asked.urls, Lines(console))
        run = Run(everyone, journal, _tokens_of(directory), progress)
        is_complete = run.take(planned, asked.until)
    keys = {turn.key for turn in planned}
    return Findings(
        ways=ways,
        categories=workload.categories,
        records=[record for record in journal.records if record.key in keys],
        failed=run.failed,
        facts={
            **facts,
            **llama_cpp.facts(cache),
            "Rounds": f"{asked.rounds}: of every kind so many sessions, and so many loads",
            **_other_load(run),
        },
        command=command("benchmarks.side_by_side"),
        size=workload.size,
        is_complete=is_complete,
    )


def _tokens_of(directory: Path) -> Tokens:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def _greet(console: Console, planned: Sequence[Turn], journal: Journal) -> None:
    done = sum(turn.key in journal.done for turn in planned)
    console.print(f"{len(planned)} turns; the journal is {journal.path}", highlight=False)
    if done:
        console.print(f"{done} of them were taken before; --fresh would begin anew")


def _bars(console: Console) -> Progress:
    progress = bars(console)
    progress.columns = (*progress.columns, TimeRemainingColumn())
    return progress


def _other_load(run: Run) -> dict[str, str]:
    if run.other_load is None:
        return {}
    return {"Other load": f"{run.other_load:.0%} of the CPU while measuring"}
