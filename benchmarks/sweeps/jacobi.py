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


def _verdict(*found: object) -> Iterable[str]:
    yield ""
