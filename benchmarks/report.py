"""From results to a report: a Markdown page and JSON. Measures and decides nothing."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.comparisons import (
    COMPARISONS,
    MOONSHOT,
    Agreement,
    Comparison,
    Samples,
    Series,
    Spread,
)
from benchmarks.contestants import LLAMA_CPP, STRIDE
from benchmarks.workloads import DECODE, PREFILL, STREAMS_8, STREAMS_16

PLAIN = "plain"  # the section of the page that is written from here


class Report(NamedTuple):
    """Everything a run found out."""

    facts: Mapping[str, str]
    command: str
    contestants: Sequence[str]
    samples: Samples
    agreements: Sequence[Agreement]
    absent: Mapping[str, str]  # who could not run, and why
    prompt_tokens: int  # of the long prompts


class Target(NamedTuple):
    """What was set as a goal, and what became of it."""

    title: str
    measured: float
    at_least: float

    def row(self) -> list[str]:
        """A line of the table."""
        verdict = "met" if self.measured >= self.at_least else "**missed**"
        return [self.title, f"{self.measured:.2f}", f"≥ {self.at_least:g}", verdict]


# --- Markdown --------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """The generated part of the page."""
    facts = [[name, value] for name, value in report.facts.items()]
    parts = [
        f"Measured with `{report.command}`:",
        table(["", ""], facts),
        "Median (lowest–highest) of all samples; warm-up not counted. More is better, except for"
        " the time to the first token.",
        table(_speed_header(report), _speed_rows(report)),
        "Ratios of samples taken right after each other, median (lowest–highest); the median"
        " decides.",
        table(["Comparison", "Measured", "Target", ""], _comparison_rows(report.samples)),
        *_moonshot_lines(report.samples),
        *_agreement_lines(report),
    ]
    return "\n\n".join(parts)


def _speed_header(report: Report) -> list[str]:
    prefill = f"{report.prompt_tokens:,}-token prompt"
    return [
        "",
        "1 stream, tokens/s",
        f"{prefill}, tokens/s",
        f"{prefill}, time to first token",
        f"{STREAMS_8}, tokens/s",
        f"{STREAMS_16}, tokens/s",
    ]


def _speed_rows(report: Report) -> list[list[str]]:
    return [_speed_row(report, name) for name in report.contestants]


def _speed_row(report: Report, name: str) -> list[str]:
    if name in report.absent:
        return [name, f"did not run: {one_line(report.absent[name])}", "", "", "", ""]
    prefill = report.samples.get(Series(PREFILL, name), ())
    return [
        name,
        spread_text(report.samples.get(Series(DECODE, name), ()), "{:.1f}"),
        spread_text(prefill, "{:.0f}"),
        spread_text([1000 * report.prompt_tokens / speed for speed in prefill], "{:.0f}", " ms"),
        spread_text(report.samples.get(Series(STREAMS_8, name), ()), "{:.1f}"),
        spread_text(report.samples.get(Series(STREAMS_16, name), ()), "{:.1f}"),
    ]


def _comparison_rows(samples: Samples) -> list[list[str]]:
    rows = []
    for comparison in COMPARISONS:
        ratio = comparison.ratio(samples)
        measured = "–" if ratio is None else spread_text(ratio, "{:.2f}", "×")
        target = "–" if comparison.at_least is None else f"≥ {comparison.at_least:g}×"
        rows.append([comparison.title, measured, target, comparison.verdict(samples)])
    return rows


def _moonshot_lines(samples: Samples) -> list[str]:
    """The goal beyond the targets, worth a word only once it is reached."""
    if MOONSHOT.verdict(samples) != "met":
        return []
    return [
        f"The moonshot is reached too, decoding ≥ 1× as fast as {LLAMA_CPP}, in the build that the"
        " first table describes."
    ]


def _agreement_lines(report: Report) -> list[str]:
    if not report.agreements:
        return []
    title = (
        "Greedy answers compared with those of Stride's engine (other number formats and kernels"
        " round differently, so that near-ties may fall the other way):"
    )
    return [title, "\n".join(map(_agreement_line, report.agreements))]


def _agreement_line(found: Agreement) -> str:
    line = f"- {found.contestant}: {found.equal} of {found.answers} equal"
    if found.first_difference:
        line += f"; the earliest difference is at {found.first_difference}"
    if found.contestant == STRIDE and found.equal < found.answers:
        line += ": **this must not happen**"
    return line


def spread_text(values: Sequence[float], form: str, unit: str = "") -> str:
    """A median with its range, or a dash where there is nothing."""
    if not values:
        return "–"
    median, lowest, highest = (form.format(value) for value in Spread.of(values))
    return f"{median}{unit} ({lowest}–{highest})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for readers of the source."""
    cells = [list(header), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def command(module: str) -> str:
    """How the program that runs was called, without where its files lie."""
    arguments = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return shlex.join(["python", "-m", module, *arguments])


def one_line(text: str) -> str:
    """Text that cannot break a table."""
    return " ".join(text.split()).replace("|", "\\|")


def markers(section: str) -> tuple[str, str]:
    """What stands around a generated section of a page."""
    return f"<!-- {section}:begin -->", f"<!-- {section}:end -->"


def between_markers(page: str, generated: str, section: str = PLAIN) -> str:
    """The page with what stands between the markers replaced; the prose around it stays.

    Raises:
        ValueError: the markers are not there once each, in order.
    """
    begin, end = markers(section)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page needs one {begin} and one {end} after it")
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{generated}\n\n{end}{after}"


# --- JSON ------------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """Everything, the single samples included."""
    return {
        "facts": dict(report.facts),
        "command": report.command,
        "samples": [
            {**series._asdict(), **Spread.of(values)._asdict(), "values": list(values)}
            for series, values in report.samples.items()
        ],
        "comparisons": [_comparison_json(c, report.samples) for c in COMPARISONS],
        "agreements": [found._asdict() for found in report.agreements],
        "absent": dict(report.absent),
    }


def _comparison_json(comparison: Comparison, samples: Samples) -> dict[str, Any]:
    ratio = comparison.ratio(samples)
    return {
        "title": comparison.title,
        "ratio": ratio and ratio._asdict(),
        "at_least": comparison.at_least,
        "verdict": comparison.verdict(samples).strip("*"),
    }
