"""Skeleton-of-thought: an outline first, then all its points side by side (arXiv 2307.15337).

Not lossless: the answer is put together from what was asked for apart. The request brings two
prompts: ``outline``, and ``point`` with a place for the outline, for the number and the heading of
a point, and for its ``lead``, with which the model is to go on.
"""

import re
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from decoding.draft import Fork, Strategy, Written

if TYPE_CHECKING:
    from decoding.sequence import Sequence

LOSSLESS = False
STAGES = ("outline", "point")

OUTLINE_START = "1."
"""How the outline begins: the prompt has it, the model goes on."""

_LEAST_POINTS = 3
_POINT_TOKENS = 20  # of the outline, for each point there may be
_LEAST_TOKENS = 8  # of a point: a heading alone says nothing
_VARIETY = 0.6  # frequency penalty: an outline says each thing once, and so does a point
_LONGEST_HEADING = 80  # characters: what is longer is no heading but an answer
_TOO_ALIKE = 0.6  # share of the words that two headings have in common

_NEXT_NUMBER = re.compile(r"(?<=\S)\s+(?=\d{1,2}[.)]\s)")  # some write the list in one line
_LINE = re.compile(r"^[\s*#-]*(\d{1,2})\s*[.)．、:：](?!\d)\s*(.+)$")  # no 3.5
_HEADING_END = re.compile(r"[:：。；;]|\.(?:\s|$)|\s[-–—]\s|——")
_MARKUP = " \t*_#\"'“”「」"
_WORD = re.compile(r"[぀-ヿ一-鿿]|\w+")
_WIDE = re.compile(r"[぀-ヿ一-鿿]")


def decode(
    seq: "Sequence",
    *,
    points: Annotated[int, Meta(ge=3, le=10)] = 8,
    sentences: Annotated[int, Meta(ge=0, le=20)] = 2,
    point_tokens: Annotated[int, Meta(ge=16, le=1024)] = 96,
) -> Strategy:
    """Ask for an outline, then for at most so many ``points`` of it.

    A point is one line; it ends behind so many ``sentences`` (0: any number) or after
    ``point_tokens``. Unlike in the paper it is asked for as if its heading were the whole outline:
    a small model that sees the other headings writes about those. Ends with a reason if there is
    no outline to go by.
    """
    verdict = yield Fork(
        stage="outline",
        fields=({},),
        max_tokens=points * _POINT_TOKENS,
        stop=("\n\n",),
        frequency_penalty=_VARIETY,
    )
    if not verdict.written:
        return "the context has no room for an outline"
    headings = headings_of(_outline(verdict.written[0]))[:points]
    if len(headings) < _LEAST_POINTS:
        return f"the outline has fewer than {_LEAST_POINTS} points"
    fields = [_fields(number, heading) for number, heading in enumerate(headings, 1)]
    first, *others = (each["lead"] for each in fields)
    verdict = yield Fork(
        stage="point",
        fields=tuple(fields),
        max_tokens=point_tokens,
        min_tokens=_LEAST_TOKENS,
        stop=("\n",),
        sentences=sentences,
        frequency_penalty=_VARIETY,
        without="\n:：",  # no point begins another one
        leads=(first, *(f"\n{each}" for each in others)),
    )
    return None if verdict.written else "the context has no room for the points"


def headings_of(outline: str) -> list[str]:
    """The headings of a numbered list, without those that say again what another one says."""
    headings: list[str] = []
    lines = _NEXT_NUMBER.sub("\n", outline).splitlines()
    for heading in filter(None, map(_heading, lines)):
        if not any(_are_alike(heading, other) for other in headings):
            headings.append(heading)
    return headings


def lead(number: int, heading: str) -> str:
    """How a point begins, in the prompt and in the answer."""
    return f"{number}. {heading}{'：' if _WIDE.search(heading) else ':'}"


def _outline(written: Written) -> str:
    """The outline without the line in which its tokens ran out."""
    text = OUTLINE_START + written.text
    return text if written.is_whole else text.rpartition("\n")[0]


def _heading(line: str) -> str:
    """The heading in a line of an outline; empty if there is none."""
    found = _LINE.match(line)
    heading = _HEADING_END.split(found[2], maxsplit=1)[0].strip(_MARKUP) if found else ""
    return heading if _WORD.search(heading) and len(heading) <= _LONGEST_HEADING else ""


def _are_alike(heading: str, other: str) -> bool:
    ours, theirs = (set(_WORD.findall(each.lower())) for each in (heading, other))
    return len(ours & theirs) > _TOO_ALIKE * len(ours | theirs)


def _fields(number: int, heading: str) -> dict[str, str]:
    return {
        "outline": f"{number}. {heading}",
        "number": str(number),
        "heading": heading,
        "lead": lead(number, heading),
    }
