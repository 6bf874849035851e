"""Are the points of an answer one to three sentences about their own heading? Counted, not judged.

By form and by words alone: whether a point is true, or well said, no such count can tell.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LEAST_CHARACTERS = 20
MOST_SENTENCES = 3
_MOST_COMMON_STEMS = 1  # with another heading, without being about it

_POINT = re.compile(r"^(\d{1,2})\. ([^\n:]+):[ \t]*", re.MULTILINE)
_SENTENCE_GAP = re.compile(r"""(?<=[.!?…])["'”’)\]]*\s+""")
_ENDED = re.compile(r"""[.!?…]["'”’)\]]*$""")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|approx|Dr|Mr|Mrs|Ms|St|U\.S)\.", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"(?:^|[\n.:;!?]\s*)\d{1,2}[.)]\s")
_WORD = re.compile(r"[^\W\d_]{4,}")
_STEM = 5  # letters
_COMMON_WORDS = """
    about above after again also although among another around because been before being between
    both cannot could does doing done down during each either else enough especially even ever every
    from further give given gives giving have having help helps here however important include
    includes including instead into just keep keeps kind like likely made make makes making many
    might more most much must need needs never often once only other others over people quite
    rather really same several should since some someone something sometimes still such sure take
    takes than that their them themselves then there these they thing things this those through
    together towards under until upon used uses using usually very want ways well were what when
    where whether which while will with within without would your yourself"""
_STOP_WORDS = frozenset(_COMMON_WORDS.split())


class Point(NamedTuple):
    """One point of an answer: ``number. heading: body``."""

    heading: str
    body: str


def points_of(answer: str) -> list[Point]:
    """The points of an answer, numbered from 1 on; other lines belong to the point above them."""
    found: list[re.Match[str]] = []
    for match in _POINT.finditer(answer):
        if int(match[1]) == len(found) + 1:
            found.append(match)
    ends = [*(match.start() for match in found), len(answer)][1:]
    return [
        Point(match[2].strip(), answer[match.end() : end].strip())
        for match, end in zip(found, ends, strict=True)
    ]


def faults(answer: str, question: str) -> list[str]:
    """For each point of an answer what is wrong with it; empty where nothing is."""
    points = points_of(answer)
    return [
        _fault(point, [other.heading for other in points if other is not point], question)
        for point in points
    ]


def _fault(point: Point, other_headings: Iterable[str], question: str) -> str:
    sentences = _sentences(point.body)
    if len(point.body) < LEAST_CHARACTERS:
        return f"under {LEAST_CHARACTERS} characters"
    if "\n" in point.body or _LIST_NUMBER.search(point.body):
        return "goes on with a list or a paragraph"
    if not _ENDED.search(point.body):
        return "breaks off in a sentence"
    if len(sentences) > MOST_SENTENCES:
        return f"over {MOST_SENTENCES} sentences"
    if len({_plain(each) for each in sentences}) < len(sentences):
        return "says a sentence twice"
    if _is_about_another(point, other_headings, question):
        return "is closer to another heading"
    return ""


def _sentences(body: str) -> Sequence[str]:
    whole = _ABBREVIATION.sub(lambda found: found[0].replace(".", ""), body)
    return [each for each in _SENTENCE_GAP.split(whole) if each]


def _plain(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.lower()))


def _is_about_another(point: Point, other_headings: Iterable[str], question: str) -> bool:
    """Whether it has more stems in common with another heading, more than a chance one."""
    body = _stems(point.body) - _stems(question)
    own = len(body & _stems(point.heading))
    others = (len(body & _stems(heading)) for heading in other_headings)
    return max(others, default=0) > max(own, _MOST_COMMON_STEMS)


def _stems(text: str) -> set[str]:
    """The beginnings of the words that say what a text is about."""
    words = (word.lower() for word in _WORD.findall(text))
    return {word.rstrip("s")[:_STEM] for word in words if word not in _STOP_WORDS}
