"""The page about the sweeps: what was swept how, and a section for each system."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks import machine
from benchmarks.processes import ROOT
from benchmarks.report import command, table
from benchmarks.sweeps import copying, jacobi, lookahead, skeleton
from benchmarks.sweeps.projection import Projection
from benchmarks.sweeps.questions import Open
from benchmarks.sweeps.unbounded import NEW_TOKENS

PICTURES = ROOT / "docs" / "benchmarks"
PAGE = PICTURES / "sweeps.md"


class Findings(NamedTuple):
    """All that was found out."""

    questions: Open
    by_window: lookahead.Found
    by_block: jacobi.Found
    copied: copying.Found
    lists: Sequence[skeleton.Asked]
    by_points: skeleton.Found


def page(found: Findings, projection: Projection) -> str:
    """The whole page."""
    questions = found.questions
    parts = [
        "# Sweeps",
        f"Measured with `{command('benchmarks.sweeps')}`, which also writes this page and its"
        " pictures. Each system has parameters that its authors swept; here they are swept again,"
        " on SmolLM2-135M-Instruct, greedily, one request at a time, every answer compared token"
        " for token with plain decoding's. The figures are counts of forwards, tokens and rows:"
        " how busy the machine was does not change them.",
        table(["", ""], [[name, value] for name, value in machine.facts().items()]),
        *_method(questions),
        *lookahead.section(found.by_window, projection),
        *copying.section(found.copied, projection),
        *skeleton.section(found.lists, found.by_points),
        *jacobi.section(found.by_block, projection),
        *_not_swept(),
    ]
    return "\n\n".join(parts) + "\n"


def pictures(found: Findings, projection: Projection) -> dict[str, str]:
    """The pictures by the names that the page has for them."""
    return {
        "sweeps-lookahead.svg": lookahead.plot(found.by_window),
        "sweeps-copying.svg": copying.plot(found.copied),
        "sweeps-skeleton.svg": skeleton.plot(found.by_points),
        "sweeps-jacobi.svg": jacobi.plot(found.by_block, projection),
    }


def _method(questions: Open) -> Iterable[str]:
    yield "## How it is counted"
    yield (
        "- **Nothing cuts a draft.** In the server the [draft budget](../strategies.md#the-budget)"
        " takes of each draft what pays; a sweep would find the budget's taste. Here the engine has"
        " no price list and no governor, so all that is proposed is verified; the limit on rows is"
        " out of reach, and more tokens are asked for than are counted, so that the end of an"
        " answer cuts nothing. Every answer begins with an engine that knows nothing of others.\n"
        "- **Tokens per forward** is the main figure: tokens of the answer by forwards, the one"
        " that reads the prompt included. Plain decoding has 1. *Rows* are those of a forward in"
        " the mean: one, and what was drafted.\n"
        "- **Projected** speed is no measurement: each forward at the price that"
        " [a step, taken apart](steps.md) has for so many rows, beyond 64 rows along its last"
        " piece; guessing is free. It says where a curve turns, not how fast anything ran.\n"
        f"- **Open questions** (lookahead, Jacobi): {len(questions.questions)} of"
        " `benchmarks/prompts/open.jsonl`, evenly by category, answers of up to"
        f" {NEW_TOKENS} tokens, {questions.tokens:,} together; {questions.loops} more end in a"
        " loop (one piece of text over and over, easy to guess) and are left out."
    )


def _not_swept() -> Iterable[str]:
    yield "## What cannot be chosen here"
    yield (
        "- LLMA drafts a block of k whatever the match. Stride's `match` and `copy` bound a tree"
        " that is as large as copying goes well; the fixed block was replayed"
        " (`benchmarks/replay.py`) and is not to be had in a request. Nor is LLMA's longest match"
        " of five tokens.\n"
        "- Lookahead as published can keep any number of n-grams for a token (G = −1) and take"
        " those of the prompt into its pool. Stride copies from the prompt by `copying` instead,"
        " and G ends at 64, as W does.\n"
        "- Skeleton-of-thought lets the model choose how many points it writes. Stride's `points`"
        " cuts the outline there, between 3 and 10; the model is not told the number.\n"
        "- Jacobi begins with random tokens of the prompt, as CLLM's code does; other beginnings"
        " cannot be chosen."
    )
