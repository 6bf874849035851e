"""The page about skeleton-of-thought: from findings to Markdown."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks import machine
from benchmarks.chatting import ChatAnswer
from benchmarks.report import Target, command, one_line, spread_text, table
from benchmarks.skeleton_findings import (
    EQUAL,
    LOSSLESS,
    PLAIN,
    SKELETON,
    WAYS,
    ListFindings,
    ServedBatch,
    upstream_speedups,
)


def page(findings: ListFindings) -> str:
    """The whole page."""
    facts = {
        **machine.facts(),
        "Other load": f"at most {findings.other_load:.0%} of the CPU, server by server",
    }
    parts = [
        "# Skeleton-of-thought",
        f"Measured with `{command('benchmarks.skeleton')}`, which also writes this page: list"
        " questions (`benchmarks/prompts/lists.jsonl`), asked of `stride serve` over HTTP and"
        " streamed, greedily, up to 512 tokens, past answers not remembered. Every round begins"
        " with a server that has answered one other question. Skeleton's answers are not those of"
        " plain decoding, and not as long: *of equal length* is plain decoding made to write as"
        " many tokens.",
        table(["", ""], [[name, value] for name, value in facts.items()]),
        *_targets(findings),
        *_alone(findings),
        *_ways(findings),
        *_batches(findings.batches),
        *_upstream(findings),
        *_points(findings),
        *_sample(findings),
        *_every_question(findings),
    ]
    return "\n\n".join(parts) + "\n"


# --- targets ---------------------------------------------------------------------------------


def _targets(findings: ListFindings) -> Iterable[str]:
    rows = [target.row() for target in targets(findings)]
    yield table(["Target", "measured", "goal", ""], rows)


def targets(findings: ListFindings) -> Iterable[Target]:
    """The goals this was built for."""
    everything = findings.numbers()
    speedup = median(findings.speedup(number) for number in everything)
    yield Target("end to end, plain ÷ skeleton, median of all questions", speedup, 1.8)
    yield Target(
        "share of the points' prompts served from shared blocks", findings.shared_by_points, 0.9
    )
    for streams, batches in _by_streams(findings.batches):
        title = f"{streams} streams, tokens per second, auto ÷ plain"
        yield Target(title, median(map(_gain, batches)), 0.97)
    yield Target(
        "share of points that are one to three sentences about their heading",
        _share_of_good(findings.faults(everything)),
        0.8,
    )


# --- one request at a time -------------------------------------------------------------------


def _alone(findings: ListFindings) -> Iterable[str]:
    yield "## One request at a time"
    header = ["", "questions", "fell back", "plain", "skeleton", "end to end", "of equal length"]
    header += ["÷ auto, lossless", "good points"]
    rows = [_alone_row(name, findings, findings.numbers(name)) for name in findings.categories]
    rows.append(_alone_row("**all**", findings, findings.numbers()))
    for name, numbers in (
        ("*without those that fell back*", findings.numbers(fallen=False)),
        ("*and without loops*", findings.numbers(fallen=False, loops=False)),
    ):
        if numbers:
            rows.append(_alone_row(name, findings, numbers))
    yield table(header, rows)
    yield (
        "Medians of the questions. *Plain* and *skeleton* are whole answers in seconds, with their"
        " tokens. *End to end*: times as fast as plain decoding; then as plain decoding of equal"
        " length, and as `auto` without skeleton; median of the rounds (lowest–highest). A question"
        " that fell back was answered by another strategy once its outline had been tried, and"
        " counts with all that took. *Loops* are questions to which plain decoding's answer ends in"
        " the same words over and over, as small greedy models' do: slow plainly, and easy to guess"
        " for what answers where skeleton falls back."
    )
    yield _losses(findings)
    if reasons := findings.fallback_reasons:
        told = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
        yield f"Why skeleton fell back: {told}."


def _alone_row(name: str, findings: ListFindings, numbers: Sequence[int]) -> list[str]:
    return [
        name,
        str(len(numbers)),
        str(sum(map(findings.fell_back, numbers))),
        _length(findings, PLAIN, numbers),
        _length(findings, SKELETON, numbers),
        f"**{spread_text(findings.speedups(PLAIN, numbers), '{:.2f}', '×')}**",
        spread_text(findings.speedups(EQUAL, numbers), "{:.2f}", "×"),
        spread_text(findings.speedups(LOSSLESS, numbers), "{:.2f}", "×"),
        _good_points(findings.faults(numbers)),
    ]


def _length(findings: ListFindings, way: str, numbers: Sequence[int]) -> str:
    found = findings.answers(way, numbers)
    return (
        f"{median(each.seconds for each in found):.1f} s, "
        f"{median(each.num_tokens for each in found):.0f}"
    )


def _losses(findings: ListFindings) -> str:
    numbers = findings.numbers()
    counts = [
        sum(findings.speedup(number, over) < 1 for number in numbers)
        for over in (PLAIN, EQUAL, LOSSLESS)
    ]
    return (
        f"Of {len(numbers)} questions skeleton was slower than plain decoding with {counts[0]},"
        f" slower than plain decoding of equal length with {counts[1]}, slower than `auto` without"
        f" it with {counts[2]}. Lossless answers that differed from plain decoding's:"
        f" {findings.different_lossless_answers}."
    )


# --- ways ------------------------------------------------------------------------------------


def _ways(findings: ListFindings) -> Iterable[str]:
    yield "### Time to the first token, and what an answer takes"
    header = ["", "time to first token", "end to end", "tokens", "forwards", "tokens per forward"]
    yield table(header, [_way_row(way, findings) for way in WAYS])
    yield (
        "Medians of all answers (lowest–highest). Skeleton shows nothing before its outline is"
        " written; a forward of it holds a token of every point that is being written."
    )


def _way_row(way: str, findings: ListFindings) -> list[str]:
    found = findings.answers(way, findings.numbers())
    steps = [_steps(each) for each in found]
    return [
        way,
        spread_text([1000 * each.first for each in found], "{:.0f}", " ms"),
        spread_text([each.seconds for each in found], "{:.1f}", " s"),
        spread_text([each.num_tokens for each in found], "{:.0f}"),
        spread_text(steps, "{:.0f}"),
        f"{sum(each.num_tokens for each in found) / sum(steps):.2f}",
    ]


def _steps(answer: ChatAnswer) -> int:
    return int(answer.decoding["model_steps"])


# --- side by side ----------------------------------------------------------------------------


def _batches(batches: Sequence[ServedBatch]) -> Iterable[str]:
    yield "## Side by side, under continuous load"
    yield (
        "As one request is answered the next one is sent; counted from the first request until"
        " there is none left to send. Each run begins with a server that knows none of the"
        " questions. `auto` writes in points only while few requests are in progress."
    )
    header = ["streams", "plain, tokens/s", "auto, tokens/s", "ratio", "answered by, with auto"]
    yield table(header, [_batch_row(*each) for each in _by_streams(batches)])


def _by_streams(batches: Sequence[ServedBatch]) -> list[tuple[int, list[ServedBatch]]]:
    sizes = dict.fromkeys(batch.streams for batch in batches)
    return [(size, [batch for batch in batches if batch.streams == size]) for size in sizes]


def _batch_row(streams: int, batches: Sequence[ServedBatch]) -> list[str]:
    strategies: Counter[str] = Counter()
    for batch in batches:
        strategies.update(batch.auto.strategies)
    return [
        str(streams),
        spread_text([batch.plain.tokens_per_second for batch in batches], "{:.0f}"),
        spread_text([batch.auto.tokens_per_second for batch in batches], "{:.0f}"),
        spread_text([_gain(batch) for batch in batches], "{:.2f}", "×"),
        ", ".join(f"{name} {count}" for name, count in strategies.most_common()),
    ]


def _gain(batch: ServedBatch) -> float:
    return batch.auto.tokens_per_second / batch.plain.tokens_per_second


# --- through another server ------------------------------------------------------------------


def _upstream(findings: ListFindings) -> Iterable[str]:
    if not findings.upstream:
        return
    yield "## Before another server"
    speedup = spread_text(upstream_speedups(findings), "{:.2f}", "×")
    fallen = sum("fallback" in each[SKELETON].decoding for each in findings.upstream[0])
    yield (
        "Asked of a server that has another one answer (`--upstream`), a `stride serve"
        f" --lossless-only` on the same machine: skeleton was {speedup} as fast as the question"
        f" passed on as it is, end to end, median of all questions. {fallen} of"
        f" {len(findings.questions)} questions fell back."
    )


# --- points ----------------------------------------------------------------------------------


def _points(findings: ListFindings) -> Iterable[str]:
    found = findings.faults(findings.numbers())
    if not found:
        return
    yield "## The points"
    good = found.count("")
    yield (
        f"{good} of {len(found)} points are one to three sentences about their own heading"
        f" ({good / len(found):.0%}). Counted by form and by words (`benchmarks/points.py`): whole"
        " sentences, none twice, no list in them, and not more words in common with another"
        " heading than with their own. Whether a point is true, or well said, it does not tell."
    )
    rows = [[fault, str(count)] for fault, count in Counter(filter(None, found)).most_common()]
    if rows:
        yield table(["what is wrong with the others", "points"], rows)


def _good_points(found: Sequence[str]) -> str:
    return f"{found.count('')} of {len(found)}" if found else "–"


def _share_of_good(found: Sequence[str]) -> float:
    return found.count("") / len(found) if found else 0.0


# --- samples ---------------------------------------------------------------------------------


def _sample(findings: ListFindings) -> Iterable[str]:
    answered = sorted(findings.numbers(fallen=False), key=findings.speedup)
    if not answered:
        return
    number = answered[len(answered) // 2]
    answers = findings.rounds[0][number]
    plain, ours = answers[PLAIN], answers[SKELETON]
    yield "## One answer"
    yield (
        "The one with the median gain of those that did not fall back, as the model wrote it. Its"
        f" question: “{findings.questions[number].text}” Plain decoding took {plain.seconds:.1f} s"
        f" and {_steps(plain)} forwards for {plain.num_tokens} tokens, skeleton"
        f" {ours.seconds:.1f} s and {_steps(ours)} forwards for {ours.num_tokens}; first tokens"
        f" after {plain.first:.2f} s and {ours.first:.2f} s."
    )
    yield "\n".join(f"> {line}".rstrip() for line in ours.text.splitlines())


def _every_question(findings: ListFindings) -> Iterable[str]:
    yield "## Every question"
    header = ["", "plain", "skeleton", "end to end", "of equal length", "÷ auto, lossless"]
    header += ["good points"]
    order = sorted(findings.numbers(), key=findings.speedup, reverse=True)
    yield table(header, [_question_row(number, findings) for number in order])
    yield "Seconds and tokens of whole answers; a dash where skeleton fell back."


def _question_row(number: int, findings: ListFindings) -> list[str]:
    return [
        one_line(findings.questions[number].text),
        _length(findings, PLAIN, [number]),
        _length(findings, SKELETON, [number]),
        f"{findings.speedup(number):.2f}×",
        f"{findings.speedup(number, EQUAL):.2f}×",
        f"{findings.speedup(number, LOSSLESS):.2f}×",
        _good_points(findings.faults([number])),
    ]
