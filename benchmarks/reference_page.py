"""The page about reference copy: from results to Markdown."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from time import perf_counter

from benchmarks import machine
from benchmarks.cases import Result, Run
from benchmarks.comparisons import Spread
from benchmarks.forced import Forced
from benchmarks.replay import ReferenceCopy, Replay, replay
from benchmarks.report import Target, command, table
from decoding.request import Reference

COPY_HEAVY = ("retrieval_qa", "quoting", "code_edit_true", "code_edit_file", "rewrite")

Seconds = Callable[[Run], tuple[float, float]]  # plain and copied


def whole(run: Run) -> tuple[float, float]:
    """From the request to its end."""
    return run.plain.seconds, run.copied.seconds


def decoding(run: Run) -> tuple[float, float]:
    """After the first news, so without the prompt."""
    return run.plain.decode_seconds, run.copied.decode_seconds


def page(results: Sequence[Result], replayed: Sequence[Forced]) -> str:
    """The whole page."""
    parts = [
        "# Reference copy",
        f"Measured with `{command('benchmarks.reference')}`, which also writes this page. Every"
        " turn is answered plainly and with reference copy, alternately, one request at a time,"
        " greedily, up to 256 tokens, the prompt read anew each time; the answers are compared"
        " token for token. *Prompt lookup* is transformers' own candidate generator (its n-grams of"
        " 2, 10 tokens), replayed"
        " on the same answers. *Loops* are answers that end in one piece of text over and over, as"
        " small greedy models do; those are copied with great success.",
        table(["", ""], [[name, value] for name, value in machine.facts().items()]),
        _by_category(results),
        "Wall clock: times as fast as plain decoding in the same run, median of the rounds"
        " (lowest–highest).",
        _targets(results),
        *_without_loops(results),
        _signal(results),
        *_forced(replayed),
        _drafter(results),
    ]
    return "\n\n".join(parts) + "\n"


# --- by category -----------------------------------------------------------------------------


def _by_category(results: Sequence[Result]) -> str:
    header = [
        *("", "turns", "loops", "tokens per forward", "drafted per forward", "prompt lookup"),
        *("wall clock", "decoding alone", "`auto` copies"),
    ]
    categories = list(dict.fromkeys(result.case.category for result in results))
    rows = [_row(name, _of(results, (name,))) for name in categories]
    return table(header, [*rows, _row("**all**", results)])


def _row(name: str, results: Sequence[Result]) -> list[str]:
    copied, lookup = _copied(results), _lookup(results)
    chosen = sum(result.case.choice.strategy == "reference" for result in results)
    return [
        name,
        str(len(results)),
        str(sum(result.is_loop for result in results)),
        f"**{copied.tokens_per_forward:.2f}**",
        f"{copied.drafted_per_forward:.1f}",
        f"{lookup.tokens_per_forward:.2f}",
        _spread(results, whole),
        _spread(results, decoding),
        f"{chosen} of {len(results)}",
    ]


def _of(results: Iterable[Result], categories: Sequence[str]) -> list[Result]:
    return [result for result in results if result.case.category in categories]


def _copied(results: Iterable[Result]) -> Replay:
    return reduce(Replay.plus, (result.copied for result in results))


def _lookup(results: Iterable[Result]) -> Replay:
    return reduce(Replay.plus, (result.lookup for result in results))


def _ratios(results: Sequence[Result], seconds: Seconds) -> list[float]:
    """How many times as fast, round by round."""
    rounds = zip(*(result.runs for result in results), strict=True)
    sums = ([sum(times) for times in zip(*map(seconds, runs), strict=True)] for runs in rounds)
    return [plain / copied for plain, copied in sums]


def _spread(results: Sequence[Result], seconds: Seconds) -> str:
    median, lowest, highest = Spread.of(_ratios(results, seconds))
    return f"{median:.2f}× ({lowest:.2f}–{highest:.2f})"


# --- targets ---------------------------------------------------------------------------------


def _targets(results: Sequence[Result]) -> str:
    rows = [target.row() for target in targets(results)]
    return table(["Target", "measured", "goal", ""], rows)


def targets(results: Sequence[Result]) -> Iterable[Target]:
    """The goals this was built for, as far as the workload has their categories."""
    better = _copied(results).tokens_per_forward / _lookup(results).tokens_per_forward
    yield Target("tokens per forward, all, ÷ prompt lookup", better, 1.3)
    for title, categories, at_least in (
        ("tokens per forward, copy-heavy", COPY_HEAVY, 3.0),
        ("tokens per forward, code edit with a true prediction", ("code_edit_true",), 5.0),
        ("tokens per forward, repeated question", ("repeated",), 4.0),
        ("tokens per forward, near-repeated question", ("near_repeated",), 1.5),
    ):
        if found := _of(results, categories):
            yield Target(title, _copied(found).tokens_per_forward, at_least)
    for title, categories, at_least in (
        ("wall clock, copy-heavy", COPY_HEAVY, 2.5),
        ("wall clock, free chat", ("chat",), 0.97),
        ("wall clock, code edit with a wrong prediction", ("code_edit_wrong",), 0.97),
    ):
        if found := _of(results, categories):
            yield Target(title, Spread.of(_ratios(found, whole)).median, at_least)


def _without_loops(results: Sequence[Result]) -> Iterable[str]:
    rest = [result for result in results if not result.is_loop]
    if not rest or len(rest) == len(results):
        return
    copied, lookup = _copied(rest).tokens_per_forward, _lookup(rest).tokens_per_forward
    yield (
        f"Without the {len(results) - len(rest)} loops: {copied:.2f} tokens per forward, prompt"
        f" lookup {lookup:.2f}, wall clock {_spread(rest, whole)}."
    )


# --- the scheduler's signal ------------------------------------------------------------------


def _signal(results: Sequence[Result]) -> str:
    """Whether the words by which `auto` sees that a prompt will be repeated tell anything."""
    alone = [
        result
        for result in results
        if not (result.case.known.has_documents or result.case.known.has_prediction)
        and result.case.known.history in ("off", "miss")
    ]
    seen = [result for result in alone if result.case.choice.strategy == "reference"]
    unseen = [result for result in alone if result not in seen]
    sums = [_copied(group).tokens_per_forward if group else 0.0 for group in (seen, unseen)]
    return (
        "Where nothing but the prompt tells whether the answer will repeat it, `auto` copied in"
        f" {len(seen)} of {len(alone)} turns: {sums[0]:.2f} tokens per forward there,"
        f" {sums[1]:.2f} would have been had in the others."
    )


# --- forced decoding -------------------------------------------------------------------------


def _forced(replayed: Sequence[Forced]) -> Iterable[str]:
    if not replayed:
        return
    yield "## LLMA's data, forced"
    yield (
        "The answers in LLMA's repository (microsoft/LMOps, `llma/data`) come from a larger model."
        " As in the paper they are forced, so this is about the texts alone: how many forwards to"
        " say them, with LLMA's algorithm (n = 1, k = 20) and with reference copy at its defaults."
    )
    header = ["", "answers", "tokens", "LLMA: forwards", "tokens per forward", "drafted"]
    header += ["ours: forwards", "tokens per forward", "drafted"]
    rows = [
        [each.name, str(each.answers), f"{each.llma.tokens:,}", *_cells(each.llma, each.ours)]
        for each in replayed
    ]
    yield table(header, rows)


def _cells(*replays: Replay) -> Iterable[str]:
    for each in replays:
        yield f"{each.forwards:,}"
        yield f"{each.tokens_per_forward:.2f}"
        yield f"{each.drafted_per_forward:.1f}"


# --- the drafter -----------------------------------------------------------------------------


def _drafter(results: Sequence[Result]) -> str:
    started = perf_counter()
    forwards = sum(
        replay(ReferenceCopy(r.case.references, r.case.prompt), r.case.answer).forwards
        for r in results
    )
    each = (perf_counter() - started) / forwards
    return (
        "## The drafter\n\nAll of it, the indexes included, took"
        f" {each * 1e6:.0f} µs a forward on this workload. The index of a random document of 32,768"
        f" tokens is built in {_index_seconds() * 1000:.1f} ms."
    )


def _index_seconds() -> float:
    tokens = tuple(random.Random(0).choices(range(50_000), k=32_768))
    times = []
    for _ in range(5):
        started = perf_counter()
        ReferenceCopy([Reference("document", tokens)], [0])
        times.append(perf_counter() - started)
    return Spread.of(times).median
