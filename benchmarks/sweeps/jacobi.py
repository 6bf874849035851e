"""Jacobi's block length: tokens per correcting forward of a model not trained for it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.answering import Answerer
from benchmarks.line_plot import Line, Panel, line_plots
from benchmarks.report import table
from benchmarks.sweeps.projection import Projection
from benchmarks.sweeps.questions import Answered
from benchmarks.sweeps.unbounded import Forwards, added, decoded

BLOCKS = (2, 4, 8, 16, 32, 64, 128)


PAPER = (
    "Kou et al. ([arXiv 2403.00835](https://arxiv.org/abs/2403.00835)) correct a block of n tokens"
    " until it stands still. Without their training it gains 1.05 times on the average, because a"
    " model is rarely right behind a wrong token; with it, blocks of 16 and 32 gain 2.4 to 3.4"
    " times, and longer blocks cost more than they bring. Santilli et al."
    " ([arXiv 2305.10427](https://arxiv.org/abs/2305.10427)) gain up to 38 % in translation, by"
    " blocks, without training."
)


class Block(NamedTuple):
    """A block of so many tokens, corrected until all of it has converged or sliding on."""

    length: int
    shrinking: bool


SETTINGS = tuple(Block(length, shrinking) for shrinking in (True, False) for length in BLOCKS)

MARGINAL = 1.1  # tokens per forward under which a gain is hardly one

Found = Mapping[Block, Forwards]


def measured(answerer: Answerer, questions: Sequence[Answered], block: Block) -> Forwards:
    """What all answers take."""
    options = {"block": block.length, "shrinking": block.shrinking}
    return added(
        decoded(answerer, each.prompt, each.answer, "jacobi", options) for each in questions
    )


# --- the page --------------------------------------------------------------------------------


def section(found: Found, projection: Projection) -> Iterable[str]:
    """The part of the page."""
    yield "## Jacobi: the length of a block"
    yield PAPER
    yield "![Tokens per forward by the length of a block](sweeps-jacobi.svg)"
    header = ["block"]
    for name in _NAMES.values():
        header += [f"{name}: tokens per forward", "iterations per block", "rows", "projected"]
    yield table(header, [[str(each), *_row(found, each, projection)] for each in BLOCKS])
    yield from _verdict(found, projection)


_NAMES = {True: "as published", False: "sliding on"}


def _row(found: Found, length: int, projection: Projection) -> Iterable[str]:
    for shrinking in _NAMES:
        forwards = found[Block(length, shrinking)]
        yield f"**{forwards.tokens_each:.3f}**"
        yield f"{length / forwards.tokens_each:.1f}"
        yield f"{forwards.rows_each:.1f}"
        yield f"{projection.speed_up(forwards):.2f}×"


def plot(found: Found, projection: Projection) -> str:
    """The picture."""
    tokens = {
        name: Line([(each, found[Block(each, kind)].tokens_each) for each in BLOCKS])
        for kind, name in _NAMES.items()
    }
    speeds = {
        name: Line([(each, projection.speed_up(found[Block(each, kind)])) for each in BLOCKS])
        for kind, name in _NAMES.items()
    }
    return line_plots(
        [
            Panel("Tokens per forward", "tokens of a block", "tokens per forward", tokens),
            Panel("Projected speed", "tokens of a block", "times plain decoding", speeds),
        ]
    )


def _verdict(found: Found, projection: Projection) -> Iterable[str]:
    published = [found[Block(each, True)].tokens_each for each in BLOCKS]
    sliding = [found[Block(each, False)].tokens_each for each in BLOCKS]
    speeds = [projection.speed_up(forwards) for forwards in found.values()]
    agrees = max(published) < MARGINAL
    yield "### Against the paper"
    yield "\n".join(
        [
            f"- **What it gains untrained {'agrees' if agrees else 'differs'}**: as published"
            f" {min(published):.2f} to {max(published):.2f} tokens per forward, where the paper's"
            " untrained models gain 1.05 times. A block of 16 takes"
            f" {16 / found[Block(16, True)].tokens_each:.1f} forwards. The reason is the paper's: a"
            " token behind a wrong one is rarely right, whatever the model's size.",
            f"- **The length matters little**: a block of {_place(published)} has all there is,"
            " longer ones cost their rows for nothing. What length does to a trained model, which"
            " is what the paper sweeps, cannot be said with a model that is not.",
            "- **Sliding on** (positions open as the beginning converges) has"
            f" {min(sliding):.2f} to {max(sliding):.2f}: no block waits for its last token.",
            f"- **Projected, no block pays**: {min(speeds):.2f} to {max(speeds):.2f} times plain"
            " speed, the shortest losing least."
            if max(speeds) <= 1
            else f"- **Projected**: {min(speeds):.2f} to {max(speeds):.2f} times plain speed.",
        ]
    )


def _place(tokens: Sequence[float]) -> str:
    most = max(round(each, 2) for each in tokens)
    return str(next(n for n, each in zip(BLOCKS, tokens, strict=True) if round(each, 2) == most))
