"""The page: from findings to Markdown. What is lost is as plain to see as what is won."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from benchmarks.report import one_line, spread_text, table
from benchmarks.side_by_side import ways
from benchmarks.side_by_side.findings import (
    Findings,
    Measure,
    decoding,
    first_token,
    percentile,
    whole,
)
from benchmarks.side_by_side.goals import goals
from benchmarks.side_by_side.run import ALONE
from benchmarks.side_by_side.sessions import LIST
from benchmarks.side_by_side.ways import Way

_DASH = "–"


def page(found: Findings) -> str:
    """The whole page."""
    parts = [
        "# Side by side",
        *_introduction(found),
        *_goals(found),
        *_everyone(found),
        *_one_stream(found),
        *_against(found),
        *_streams(found),
        *_strategies(found),
        *_loops(found),
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(found: Findings) -> Iterable[str]:
    size = found.size
    yield (
        f"Measured with `{found.command}`, which also writes this page, its pictures and"
        " [every figure](side-by-side.json): Stride and its peers on one machine, with the same"
        f" weights, over HTTP, streaming, greedily, up to {size.max_tokens} tokens an answer"
        f" ({size.list_tokens} to a list question), which ends where the model ends it. They take"
        " turns with every session, another one first each time, and whoever does not have the"
        " turn is stopped (`SIGSTOP`). All have answered a list question before, and say four"
        " tokens before the clock runs. Nobody is asked the same twice, but where asking again is"
        " the point; earlier turns of a conversation hold everyone's own answers. Each is set up as"
        " [below](#who-was-asked) and else as it comes, and may keep what it likes of what it has"
        " read and said."
    )
    yield (
        "Tokens are counted by the model's tokeniser in the text that came, for all alike: answers"
        " to the same prompt differ in length, as number formats round differently. *End to end* is"
        " tokens a second from the question to the end of the answer, the prompt included. Where"
        " the text does not say otherwise, answers that end in [a loop](#loops) do not count."
    )
    if not found.is_complete:
        yield (
            "**This run was stopped before its end**, so a part of the figures rests on less, or is"
            " missing; the same command takes it up again."
        )
    yield table(["", ""], [[name, value] for name, value in found.facts.items()])


def _goals(found: Findings) -> Iterable[str]:
    yield "## Goals"
    header = ["Stride, as it comes", "÷", "measured", "goal", ""]
    yield table(header, [goal.row() for goal in goals(found)])
    yield (
        "Ratios for each question that both answered (for each round under load), median"
        " (lowest–highest); the median decides. Where a peer has several modes, it is the one that"
        " does best there."
    )


def _everyone(found: Findings) -> Iterable[str]:
    yield "## Who was asked"
    yield table(["", "how", "answers"], [_set_up(found, way) for way in found.ways])


def _set_up(found: Findings, way: Way) -> list[str]:
    problems = [record.problem for record in found.records if record.way == way.name]
    said = found.failed.get(way.server) or next(filter(None, problems), "")
    streams = (ALONE, *found.streams)
    count = sum(len(found.answers(way.name, streams=each, loops=None)) for each in streams)
    failed = f"; **failed**: {one_line(said)[:200]}" if said else ""
    return [way.name, way.set_up, f"{count}{failed}"]


# --- one stream ------------------------------------------------------------------------------


def _compared(found: Findings) -> list[Way]:
    """Stride as it comes, and everyone else's."""
    return [way for way in found.ways if way == ways.AUTO or way.family != "Stride"]


def _one_stream(found: Findings) -> Iterable[str]:
    yield "## One stream, by category"
    yield "![End to end, by category](side-by-side.svg)"
    for title, measure, form, unit in (
        ("End to end, tokens a second", whole, "{:.1f}", ""),
        ("Decoding, tokens a second behind the first piece of text", decoding, "{:.1f}", ""),
        ("Time to the first token", first_token, "{:.0f}", " ms"),
    ):
        yield f"### {title}"
        yield _by_category(found, _spread_of(found, measure, form, unit))
    yield "Median (lowest–highest) of the answers."
    yield "### Tokens per forward"
    yield _by_category(found, lambda way, category: _per_forward(found, way, category))
    yield (
        "Of all answers together, from what servers say of themselves; Stride's forwards include"
        " those that read the prompt. Others do not tell."
    )


def _by_category(found: Findings, cell: Callable[[Way, str], str]) -> str:
    compared = _compared(found)
    rows = [[category, *(cell(way, category) for way in compared)] for category in found.categories]
    if (points := found.way(ways.POINTS.name)) and LIST in found.categories:
        others = (cell(way, LIST) for way in compared[1:])
        rows.append([f"{LIST}, points allowed", cell(points, LIST), *others])
    return table(["", *(way.name for way in compared)], rows)


def _spread_of(
    found: Findings, measure: Measure, form: str, unit: str, streams: int = ALONE
) -> Callable[[Way, str], str]:
    def cell(way: Way, category: str) -> str:
        values = found.values(way.name, measure, category, streams=streams)
        return spread_text(values, form, unit)

    return cell


def _per_forward(found: Findings, way: Way, category: str) -> str:
    rate = found.tokens_per_forward(way.name, category)
    return _DASH if rate is None else f"{rate:.2f}"


# --- won and lost ----------------------------------------------------------------------------


def _against(found: Findings) -> Iterable[str]:
    compared = [way for way in _compared(found) if way != ways.AUTO]
    if not compared:
        return
    yield "### Stride ÷ each, end to end"
    yield _by_category_of(found, compared, ways.AUTO)
    lost = [
        f"{category} against {way.name} ({median(ratios):.2f}×)"
        for way in compared
        for category in found.categories
        if (ratios := found.ratios(ways.AUTO.name, way.name, [category])) and median(ratios) < 1
    ]
    yield (
        f"Lost: {'; '.join(lost)}."
        if lost
        else "Nothing was lost in this table: every median is at least 1."
    )


def _by_category_of(found: Findings, others: Sequence[Way], ours: Way) -> str:
    rows = [
        [category, *(_ratio(found.ratios(ours.name, way.name, [category])) for way in others)]
        for category in found.categories
    ]
    if found.way(ways.POINTS.name) and LIST in found.categories:
        cells = (_ratio(found.ratios(ways.POINTS.name, way.name, [LIST])) for way in others)
        rows.append([f"{LIST}, points allowed", *cells])
    return table(["", *(way.name for way in others)], rows)


def _ratio(values: Sequence[float]) -> str:
    """Bold where it is a loss."""
    text = spread_text(values, "{:.2f}", "×")
    return f"**{text}**" if values and median(values) < 1 else text


# --- side by side ----------------------------------------------------------------------------


def _streams(found: Findings) -> Iterable[str]:
    yield "## Many streams"
    yield (
        "All kinds of sessions mixed; as one ends the next one begins. Every conversation is opened"
        " by a message of its own, so that no cache of prefixes helps. Tokens of all streams"
        " together while all of them had something to ask, loops included; one stream beside it is"
        " all answers' tokens by their seconds. Servers that answer one request at a time were not"
        " asked: their streams would wait for each other."
    )
    yield "![Tokens a second, by number of streams](side-by-side-streams.svg)"
    asked = [way for way in found.ways if way.takes_load]
    streams = (ALONE, *found.streams)
    header = ["tokens a second, all together", *(_streams_title(each) for each in streams)]
    rows = [[way.name, *(_throughput(found, way, each) for each in streams)] for way in asked]
    yield table(header, rows)
    yield from _waits(found, [way for way in _compared(found) if way.takes_load])
    for each in found.streams:
        yield f"### By category, {_streams_title(each)}: end to end, tokens a second"
        yield _by_category(found, _spread_of(found, whole, "{:.1f}", "", each))


def _throughput(found: Findings, way: Way, streams: int) -> str:
    values = found.throughput(way.name, streams)
    return f"{values[0]:.0f}" if len(values) == 1 else spread_text(values, "{:.0f}")


def _waits(found: Findings, asked: Sequence[Way]) -> Iterable[str]:
    """First tokens, and gaps between pieces of text."""
    streams = (ALONE, *found.streams)
    yield "### Waiting"
    header = ["time to the first token, median (99th percentile)", *map(_streams_title, streams)]
    rows = [
        [
            way.name,
            *(_wait(found.values(way.name, first_token, streams=each)) for each in streams),
        ]
        for way in asked
    ]
    yield table(header, rows)
    header[0] = "between pieces of text, median (99th percentile)"
    rows = [
        [way.name, *(_wait([1000 * gap for gap in found.gaps(way.name, each)]) for each in streams)]
        for way in asked
    ]
    yield table(header, rows)
    yield "Milliseconds. A piece holds one token or several."


def _wait(values: Sequence[float]) -> str:
    return f"{median(values):.0f} ({percentile(values, 0.99):.0f})" if values else _DASH


def _streams_title(streams: int) -> str:
    return "one stream" if streams == ALONE else f"{streams} streams"


# --- strategies ------------------------------------------------------------------------------


def _strategies(found: Findings) -> Iterable[str]:
    fixed = [way for way in ways.STRATEGIES if found.way(way.name)]
    if not fixed:
        return
    yield "## `auto` ÷ each fixed strategy"
    yield _by_category_of(found, fixed, ways.AUTO)
    rows = [
        [
            _streams_title(each),
            *(_ratio(found.load_ratios(ways.AUTO.name, way.name, each)) for way in fixed),
        ]
        for each in found.streams
    ]
    yield table(["all together", *(way.name for way in fixed)], rows)
    yield (
        "End to end, each strategy for all requests of a server of its own. *points allowed* is"
        f" `auto` without `lossless`.{_skeleton(found)}"
    )
    different, both = found.different(ways.AUTO.name, ways.PLAIN.name)
    yield (
        f"Answers of `auto` to one stream that differ from plain decoding's: {different} of {both}."
        + (" **This must not happen.**" if different else "")
    )


def _skeleton(found: Findings) -> str:
    ratios = found.ratios(ways.SKELETON.name, ways.PLAIN.name, [LIST])
    if not ratios:
        return ""
    return f" Skeleton for list questions ÷ plain: {spread_text(ratios, '{:.2f}', '×')}."


# --- loops -----------------------------------------------------------------------------------


def _loops(found: Findings) -> Iterable[str]:
    yield "## Loops"
    yield (
        "Greedy answers of a small model often end in the same words over and over. Whatever copies"
        " is then fast without merit, so these answers are left out of everything about one stream"
        " above, and stand here."
    )
    rows = [
        [
            way.name,
            str(found.loops(way.name)),
            str(len(found.answers(way.name, loops=None))),
            spread_text(
                [whole(each) for each in found.answers(way.name, loops=True).values()], "{:.1f}"
            ),
        ]
        for way in found.ways
    ]
    yield table(["", "loops", "of answers", "end to end, tokens a second"], rows)
