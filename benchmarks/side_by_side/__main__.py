"""``python -m benchmarks.side_by_side`` (``make bench``, ``stride bench``): Stride and its peers.

Stopped with Ctrl-C or by its time, it goes on from there when it is called again: what was measured
is in a journal below the cache directory, one for each commit and workload.
"""

import sys
from math import inf
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from benchmarks.processes import ROOT

SHORT_MINUTES = 4.25  # a turn that has begun is finished

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Measure Stride and its peers on the same prompts, in alternating turns.")
def main(
    short: Annotated[
        bool, typer.Option("--short", help="Short answers, one round, within five minutes.")
    ] = False,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Sessions of each kind [4; short: 1].")
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="A server that runs: NAME=http://host:port/v1.", metavar="NAME=URL"),
    ] = None,
    workload: Annotated[
        list[Path] | None, typer.Option(help="JSONL of {category, turns}; instead of our own.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="What Stride and transformers serve [the default model].")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Ask only these, by their names in the tables.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after so many [none; short: 4.25].")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, whatever was measured before.")
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option(help="Where results go [docs/benchmarks; short: build/side-by-side]."),
    ] = None,
) -> None:
    """Measure, and write what was found."""
    urls = dict(_named(each) for each in url or ())
    from benchmarks.side_by_side.command import Asked, measure  # transformers takes seconds

    folder = ROOT / "build" / "side-by-side" if short else ROOT / "docs" / "benchmarks"
    if minutes is None:
        minutes = SHORT_MINUTES if short else inf
    asked = Asked(
        is_short=short,
        rounds=rounds or (1 if short else 4),
        urls=urls,
        workload=workload or (),
        model=model,
        only=only or (),
        until=monotonic() + 60 * minutes,
        fresh=fresh,
        folder=to or folder,
    )
    raise typer.Exit(measure(asked))


def _named(url: str) -> tuple[str, str]:
    name, found, address = url.partition("=")
    if not found or not address.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url!r} is not NAME=http://host:port/v1", param_hint="--url")
    return name, address


if __name__ == "__main__":
    sys.exit(app())
