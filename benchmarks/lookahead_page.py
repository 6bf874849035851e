"""The page about lookahead and Jacobi: from findings to Markdown."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks import machine
from benchmarks.continuous import Load
from benchmarks.open_text import (
    JACOBI,
    LOOKAHEAD,
    PLAIN,
    WINDOW_ALONE,
    Batch,
    Findings,
    Way,
    added,
)
from benchmarks.report import Target, command, spread_text, table
from decoding.request import SourceCounts
from decoding.strategies import figures


def page(findings: Findings) -> str:
    """The whole page."""
    parts = [
        "# Lookahead and Jacobi",
        f"Measured with `{command('benchmarks.lookahead')}`, which also writes this page: greedy"
        " answers of up to 256 tokens by engines in this process, one for each way, in their"
        " default settings, each compared token for token with plain decoding's. *Loops* are"
        " answers that end in one piece of text over and over, as small greedy models do; they are"
        " easy to guess and count nowhere but in their own row. *Prompt lookup* is transformers'"
        " own candidate generator (n-grams of 2, 10 tokens), replayed on the same answers."
        " Not measured on a GPU: none was there.",
        table(["", ""], [[name, value] for name, value in machine.facts().items()]),
        *_alone(findings),
        *_targets(findings),
        *_sources(findings),
        *_batches(findings.batches),
        *_jacobi(findings),
    ]
    return "\n\n".join(parts) + "\n"


# --- one request at a time -------------------------------------------------------------------


def _alone(findings: Findings) -> Iterable[str]:
    yield "## One request at a time"
    header = ["", "answers", "tokens per forward", "drafted per forward", "prompt lookup"]
    header += ["window alone", "wall clock"]
    rows = [_alone_row(name, findings, findings.numbers(name)) for name in _categories(findings)]
    rows.append(_alone_row("**all**", findings, findings.numbers()))
    if loops := findings.numbers(loops=True):
        rows.append(_alone_row("*loops*", findings, loops))
    yield table(header, rows)
    yield (
        "Wall clock: whole answers, times as fast as plain decoding in the same run, median of the"
        " rounds (lowest–highest)."
    )


def _categories(findings: Findings) -> list[str]:
    return list(dict.fromkeys(findings.questions[number].category for number in findings.numbers()))


def _alone_row(name: str, findings: Findings, numbers: Sequence[int]) -> list[str]:
    ours = findings.replay(LOOKAHEAD, numbers)
    return [
        name,
        str(len(numbers)),
        f"**{ours.tokens_per_forward:.2f}**",
        f"{ours.drafted_per_forward:.1f}",
        f"{_lookup(findings, numbers):.2f}",
        f"{findings.replay(WINDOW_ALONE, numbers).tokens_per_forward:.2f}",
        spread_text(findings.ratios(LOOKAHEAD, numbers), "{:.2f}", "×"),
    ]


def _lookup(findings: Findings, numbers: Sequence[int]) -> float:
    return added(findings.questions[number].lookup for number in numbers).tokens_per_forward


# --- targets ---------------------------------------------------------------------------------


def _targets(findings: Findings) -> Iterable[str]:
    rows = [target.row() for target in targets(findings)]
    yield table(["Target", "measured", "goal", ""], rows)


def targets(findings: Findings) -> Iterable[Target]:
    """The goals this was built for."""
    numbers = findings.numbers()
    ours = findings.replay(LOOKAHEAD, numbers).tokens_per_forward
    alone = findings.replay(WINDOW_ALONE, numbers).tokens_per_forward
    yield Target("tokens per forward ÷ prompt lookup", ours / _lookup(findings, numbers), 1.3)
    yield Target("tokens per forward ÷ the window alone", ours / alone, 1.2)
    yield Target("wall clock, all", median(findings.ratios(LOOKAHEAD, numbers)), 1.3)
    slowest = min(
        median(findings.ratios(LOOKAHEAD, findings.numbers(name))) for name in _categories(findings)
    )
    yield Target("wall clock, slowest category", slowest, 0.97)
    yield Target("jacobi, wall clock, all", median(findings.ratios(JACOBI, numbers)), 1.0)
    for streams, batches in _by_streams(findings.batches):
        yield Target(f"{streams} streams, tokens per second", median(map(_gain, batches)), 0.97)
        slowest = min(
            median(_pace_ratio(each, name) for each in batches) for name in _categories(findings)
        )
        yield Target(f"{streams} streams, slowest category", slowest, 0.97)
        if streams == 16:
            share = median(each.drafting.guessing_share for each in batches)
            yield Target(
                "16 streams, 5 % ÷ share of step time spent on guessing", 0.05 / share, 1.0
            )


# --- sources ---------------------------------------------------------------------------------


def _sources(findings: Findings) -> Iterable[str]:
    yield "## What each source gives"
    numbers = findings.numbers()
    ways = [*findings.sources, LOOKAHEAD]
    header = ["", "tokens per forward", "drafted per forward", "wall clock, one run"]
    yield table(header, [_source_row(findings, way, numbers) for way in ways])
    yield (
        "The wall clock of the single sources is from one pass each, against the median of plain"
        " decoding's rounds: not alternating, so worth less than the table above. What the default"
        " verified, by where the guesses are from:"
    )
    counts: defaultdict[str, SourceCounts] = defaultdict(SourceCounts)
    for number in numbers:
        for source, found in findings.alone[0][number][LOOKAHEAD].sources.items():
            counts[source].add(found)
    header = ["source", "forwards with such guesses", "drafted", "accepted", "accepted of drafted"]
    yield table(header, [_counts_row(*each) for each in sorted(counts.items())])


def _source_row(findings: Findings, way: Way, numbers: Sequence[int]) -> list[str]:
    replay = findings.replay(way, numbers)
    plain = sum(
        median(each[number][PLAIN].seconds for each in findings.alone) for number in numbers
    )
    if way in findings.sources:
        seconds = sum(findings.sources[way][number].seconds for number in numbers)
    else:
        seconds = sum(findings.alone[0][number][way].seconds for number in numbers)
    return [
        "**lookahead, the default**" if way == LOOKAHEAD else way.name,
        f"{replay.tokens_per_forward:.2f}",
        f"{replay.drafted_per_forward:.1f}",
        f"{plain / seconds:.2f}×",
    ]


def _counts_row(source: str, counts: SourceCounts) -> list[str]:
    share = counts.accepted / counts.drafted
    numbers = (counts.drafts, counts.drafted, counts.accepted)
    return [f"`{source}`", *(f"{number:,}" for number in numbers), f"{share:.0%}"]


# --- side by side ----------------------------------------------------------------------------


def _batches(batches: Sequence[Batch]) -> Iterable[str]:
    yield "## Side by side, under continuous load"
    yield (
        "As one request ends the next one begins, the first ones after shorter answers, so that not"
        " all end at once; counted while all streams are busy, the reading of prompts included."
        " Each run begins with an engine that has everything yet to learn. Loops are left out."
        " *By category*: how many times as fast a request's tokens come."
    )
    categories = list(dict.fromkeys(s.category for s in batches[0].plain.served.values()))
    header = ["streams", "plain, tokens/s", "lookahead, tokens/s", "ratio", "tokens per sequence"]
    header += ["steps with drafts", "guessing, of step time", "of steps with drafts", *categories]
    yield table(header, [_batch_row(*each, categories) for each in _by_streams(batches)])


def _by_streams(batches: Sequence[Batch]) -> list[tuple[int, list[Batch]]]:
    sizes = dict.fromkeys(batch.streams for batch in batches)
    return [(size, [batch for batch in batches if batch.streams == size]) for size in sizes]


def _batch_row(streams: int, batches: Sequence[Batch], categories: Sequence[str]) -> list[str]:
    loads = [batch.drafting for batch in batches]
    return [
        str(streams),
        f"{median(batch.plain.tokens_per_second for batch in batches):.0f}",
        f"{median(load.tokens_per_second for load in loads):.0f}",
        spread_text([_gain(batch) for batch in batches], "{:.2f}", "×"),
        f"{median(load.tokens / load.steps / streams for load in loads):.2f}",
        f"{median(load.drafting_steps / load.steps for load in loads):.0%}",
        f"{median(load.guessing_share for load in loads):.1%}",
        f"{median(load.guessing_share_of_drafting for load in loads):.1%}",
        *(f"{median(_pace_ratio(batch, name) for batch in batches):.2f}×" for name in categories),
    ]


def _gain(batch: Batch) -> float:
    return batch.drafting.tokens_per_second / batch.plain.tokens_per_second


def _pace_ratio(batch: Batch, category: str) -> float:
    """Seconds of the requests of a category that both ways answered, plain by drafting."""
    numbers = [
        number
        for number, served in batch.plain.served.items()
        if served.category == category and number in batch.drafting.served
    ]
    return _seconds(batch.plain, numbers) / _seconds(batch.drafting, numbers)


def _seconds(load: Load, numbers: Sequence[int]) -> float:
    return sum(load.served[number].seconds for number in numbers)


# --- jacobi ----------------------------------------------------------------------------------


def _jacobi(findings: Findings) -> Iterable[str]:
    numbers = findings.numbers()
    counts = SourceCounts()
    for number in numbers:
        for found in findings.alone[0][number][JACOBI].sources.values():
            counts.add(found)
    replay = findings.replay(JACOBI, numbers)
    speed = spread_text(findings.ratios(JACOBI, numbers), "{:.2f}", "×")
    yield "## Jacobi"
    yield (
        "The default model is not trained for it, so it is to lose nothing:"
        f" {speed} of plain decoding's speed,"
        f" {replay.tokens_per_forward:.2f} tokens per forward. {_iterations(counts)}"
        " What it gains with a model that is consistent is tested with a constructed one"
        " (`tests/decoding/test_jacobi.py`)."
    )


def _iterations(counts: SourceCounts) -> str:
    found = figures("jacobi", {}, {"jacobi": counts})
    if not found:
        return "It did not correct anything."
    return (
        f"Guesses were corrected in {found['iterations']:,.0f} forwards, with"
        f" {found['tokens_per_iteration']:.2f} tokens each:"
        f" {found['iterations_per_block']:.1f} iterations per block of 16."
    )
