"""The page of what happens under strain: what was expected, what came of it. Measures nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from benchmarks.processes import ROOT
from benchmarks.report import between_markers, command, table

PAGE = ROOT / "docs" / "benchmarks" / "reliability.md"


class Finding(NamedTuple):
    """One thing that was looked at. Without a goal it is told and not judged."""

    title: str
    measured: str
    goal: str = "–"
    is_met: bool | None = None

    def row(self) -> list[str]:
        """A line of the table."""
        verdict = {True: "met", False: "**missed**", None: ""}[self.is_met]
        return [self.title, self.measured, self.goal, verdict]


def yes(title: str, is_so: bool) -> Finding:
    """Something that is to be so."""
    return Finding(title, "yes" if is_so else "no", "yes", is_so)


def findings(rows: Sequence[Finding]) -> str:
    """A table of findings."""
    return table(["", "Measured", "Goal", ""], [each.row() for each in rows])


def section(module: str, rows: Sequence[Finding], other_load: float) -> str:
    """What one command found out: how, where, and what."""
    facts = machine.facts()
    where = (
        f"`{command(module)}` on {facts['CPU']}, {facts['Memory']}; {facts['Versions']};"
        f" commit {facts['Commit']}, {facts['Date']}. Other processes took"
        f" {other_load:.0%} of the processors meanwhile."
    )
    return f"{where}\n\n{findings(rows)}"


def write(name: str, generated: str, page: Path = PAGE) -> None:
    """Put a section in its place on the page; the prose around it stays."""
    text = page.read_text(encoding="utf-8")
    page.write_text(between_markers(text, generated, name), encoding="utf-8")


def publish(name: str, rows: Sequence[Finding], other_load: float, *, is_kept: bool) -> None:
    """Print what ``benchmarks.name`` found out, and put it on the page if it is to be kept."""
    text = section(f"benchmarks.{name}", rows, other_load)
    print(text)
    if is_kept:
        write(name, text)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values is at or below; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> str:
    """Median, 99th percentile and longest of some times."""
    if not values:
        return "–"
    cuts = (percentile(values, 0.5), percentile(values, 0.99), max(values))
    return "p50 {:.0f} ms, p99 {:.0f} ms, longest {:.0f} ms".format(*(1000 * cut for cut in cuts))
