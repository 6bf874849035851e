"""Skeleton-of-thought by the number of points: forwards one after the other, and good points."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean
from typing import NamedTuple

from msgspec.structs import replace

from benchmarks.answering import Answerer, asking
from benchmarks.conversations import Conversation
from benchmarks.line_plot import Line, Panel, line_plots
from benchmarks.loops import ends_in_a_loop
from benchmarks.points import faults
from benchmarks.report import table
from decoding.options import Limits
from decoding.request import Decoder, Request
from server.chat import chat_tokens
from server.schemas import Message
from server.stages import chat_stages
from server.wordings import Wordings

POINTS = (3, 4, 5, 6, 8, 10)
NEW_TOKENS = 512


PAPER = (
    "Ning et al. ([arXiv 2307.15337](https://arxiv.org/abs/2307.15337)) ask for 3 to 10 points and"
    " let the model choose: 6.8 in the mean. As an answer takes its outline and its longest point"
    " only, more points mean more tokens side by side; they report up to 2.39 times the speed,"
    " answers that are one to two times as long, and points that are less coherent."
)


class Asked(NamedTuple):
    """A question ready to be answered in points, and the forwards of its plain answer."""

    text: str
    request: Request
    plain: int
    is_loop: bool  # the plain answer


class InPoints(NamedTuple):
    """An answer in points: tokens, forwards, those of its outline, what is wrong with each point.

    ``plain`` are the forwards of plain decoding's answer; None where that ends in a loop.
    """

    tokens: int
    forwards: int
    outline: int
    faults: tuple[str, ...]
    plain: int | None

    @property
    def longest(self) -> int:
        """The forwards in which points were written: as many as the longest takes."""
        return self.forwards - self.outline


Found = Mapping[int, Sequence[InPoints]]
"""By how many points there may be: the answers, without those that fell back."""


def asked(answerer: Answerer, conversations: Iterable[Conversation]) -> Iterator[Asked]:
    """The first turns of conversations."""
    wordings = Wordings()
    for conversation in conversations:
        messages = [Message(role="user", content=conversation.turns[0])]
        prompt = asyncio.run(chat_tokens(answerer.tokenizer, messages))
        stages = asyncio.run(chat_stages(answerer.tokenizer, wordings, messages, []))
        plain = answerer.answer(prompt, NEW_TOKENS, "autoregressive").tokens
        request = asking("sweep", prompt, NEW_TOKENS, "skeleton", {})
        request = replace(request, stages=stages, fallback=Decoder("autoregressive"))
        yield Asked(conversation.turns[0], request, len(plain), ends_in_a_loop(plain))


def measured(answerer: Answerer, questions: Iterable[Asked], points: int) -> list[InPoints]:
    """The answers in at most so many points, every branch decoded plainly, one request at a time.

    The engine drafts nothing, so there is no price list to ask.
    """
    found = []
    for question in questions:
        written = _written(answerer, replace(question.request, options={"points": points}))
        if not written.is_fallen:
            found.append(
                InPoints(
                    written.tokens,
                    written.forwards,
                    written.outline,
                    tuple(faults(written.text, question.text)),
                    None if question.is_loop else question.plain,
                )
            )
    return found


@dataclass
class _Written:
    text: str = ""
    tokens: int = 0
    forwards: int = 0
    outline: int = 0
    is_fallen: bool = False


def _written(answerer: Answerer, request: Request) -> _Written:
    written = _Written()
    engine = answerer.unpriced(Limits())
    engine.add(request)
    while engine.has_work:
        for output in engine.step().outputs:
            written.text += output.text
            written.tokens += len(output.tokens)
            written.forwards += output.steps
            written.outline += output.branches.hidden_tokens if output.branches else 0
            written.is_fallen |= output.fallback is not None
    return written


# --- the page --------------------------------------------------------------------------------


class Sums(NamedTuple):
    """Answers taken together."""

    answers: int
    points: float  # of an answer, in the mean
    tokens: float
    outline: float
    longest: float
    good: float  # share of all points
    steps_saved: float  # forwards of plain answers over these, where plain ends in no loop

    @property
    def forwards(self) -> float:
        """One after the other, of an answer in the mean."""
        return self.outline + self.longest

    @property
    def tokens_each(self) -> float:
        """Tokens per forward."""
        return self.tokens / self.forwards


def summed(answers: Sequence[InPoints]) -> Sums:
    """The means of some answers, at least one of them with a plain one that ends in no loop."""
    points = [fault for each in answers for fault in each.faults]
    compared = [each for each in answers if each.plain is not None]
    plain = sum(each.plain or 0 for each in compared)
    return Sums(
        answers=len(answers),
        points=len(points) / len(answers),
        tokens=fmean(each.tokens for each in answers),
        outline=fmean(each.outline for each in answers),
        longest=fmean(each.longest for each in answers),
        good=points.count("") / len(points),
        steps_saved=plain / sum(each.forwards for each in compared) if compared else nan,
    )


def section(questions: Sequence[Asked], found: Found) -> Iterable[str]:
    """The part of the page."""
    yield "## Skeleton-of-thought: the number of points"
    yield PAPER
    yield "![Tokens per forward, forwards and good points](sweeps-skeleton.svg)"
    loops = sum(question.is_loop for question in questions)
    yield (
        f"{len(questions)} questions; {loops} of their plain answers end in a loop and are left out"
        " of the comparison with plain decoding. *Longest point*: the forwards in which points were"
        " written."
    )
    header = ["points, at most", "answers", *_HEADER]
    yield table(header, [[str(limit), *_cells(found[limit])] for limit in found])
    yield "The same answers, of all limits together, by the points that they have:"
    yield table(["points", "answers", *_HEADER], _by_points(found))
    yield from _verdict(found)


_HEADER = ["points", "tokens", "outline, forwards", "longest point, forwards"]
_HEADER += ["tokens per forward", "plain forwards ÷ these", "good points"]


def _cells(answers: Sequence[InPoints]) -> list[str]:
    sums = summed(answers)
    saved = "–" if isnan(sums.steps_saved) else f"{sums.steps_saved:.2f}"
    return [
        str(sums.answers),
        f"{sums.points:.1f}",
        f"{sums.tokens:.0f}",
        f"{sums.outline:.0f}",
        f"{sums.longest:.0f}",
        f"**{sums.tokens_each:.2f}**",
        saved,
        f"{sums.good:.0%}",
    ]


def by_points(found: Found) -> dict[int, list[InPoints]]:
    """Answers by the points they have, each once: limits above an outline's length repeat it."""
    sorted_: defaultdict[int, dict[InPoints, None]] = defaultdict(dict)
    for answers in found.values():
        for answer in answers:
            sorted_[len(answer.faults)].setdefault(answer)
    return {points: list(sorted_[points]) for points in sorted(sorted_)}


def _by_points(found: Found) -> list[list[str]]:
    return [[str(points), *_cells(answers)] for points, answers in by_points(found).items()]


def plot(found: Found) -> str:
    """The picture."""
    sums = {limit: summed(answers) for limit, answers in found.items()}

    def line(value: Callable[[Sums], float], *, dashed: bool = False) -> Line:
        return Line([(limit, value(each)) for limit, each in sums.items()], dashed)

    x = "points, at most"
    tokens = {
        "of the whole answer": line(lambda each: each.tokens_each),
        "of the points alone": line(lambda each: each.tokens / each.longest, dashed=True),
    }
    forwards = {
        "all": line(lambda each: each.forwards),
        "outline": line(lambda each: each.outline),
        "longest point": line(lambda each: each.longest),
    }
    good = {"good points": line(lambda each: 100 * each.good)}
    return line_plots(
        [
            Panel("Tokens per forward", x, "tokens per forward", tokens, doubles=False),
            Panel("Forwards one after the other", x, "forwards", forwards, doubles=False),
            Panel("Good points", x, "% of all points", good, doubles=False),
        ]
    )


def _verdict(found: Found) -> Iterable[str]:
    sums = {limit: summed(answers) for limit, answers in found.items()}
    few, many = sums[POINTS[0]], sums[POINTS[-1]]
    rises = many.tokens_each > few.tokens_each
    yield "### Against the paper"
    yield "\n".join(
        [
            f"- **More points, more at once: {'agrees' if rises else 'differs'}.** From at most"
            f" {POINTS[0]} points to at most {POINTS[-1]} (written: {few.points:.1f} and"
            f" {many.points:.1f}; the paper's models write 6.8) tokens per forward go from"
            f" {few.tokens_each:.2f} to {many.tokens_each:.2f}, not as fast as the points:",
            f"- **The outline is the serial part**, {few.outline:.0f} forwards at the lowest limit,"
            f" {many.outline:.0f} at the highest, {few.outline / few.forwards:.0%} and"
            f" {many.outline / many.forwards:.0%} of all. The model is not told how many points are"
            " wanted, so a low limit cuts off an outline that would go on; and points end after two"
            " sentences here, which makes the outline weigh more than in the paper.",
            f"- **The longest point decides**: {few.longest:.0f} forwards, then {many.longest:.0f}."
            " The more points there are, the longer is the longest of them.",
            f"- **Good points**: {few.good:.0%} with the lowest limit, {many.good:.0%} with the"
            " highest. Counted by form and words (`benchmarks/points.py`); the paper has judges"
            " compare whole answers, against which this cannot be held.",
            f"- **Against plain answers** of the same questions: {few.steps_saved:.2f} and"
            f" {many.steps_saved:.2f} times fewer forwards one after the other, where the paper's"
            " best model has 2.39 times the speed. These are other texts: this model's plain"
            f" answers have {_plain_tokens(found):.0f} tokens, those in points {few.tokens:.0f} to"
            f" {many.tokens:.0f}, where the paper's answers in points are the longer ones.",
        ]
    )


def _plain_tokens(found: Found) -> float:
    plain = [each.plain for answers in found.values() for each in answers]
    return fmean([each for each in plain if each is not None] or [nan])
