"""How skeleton-of-thought asks for an outline and for its points: one file a language.

Files of the same names in a directory of the operator's replace these, others are added.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec import Struct

from decoding.strategies.skeleton import OUTLINE_START, lead

NEUTRAL = "neutral"
_OWN = Path(__file__).parent
Turn = tuple[str, str]
"""Who says it (``user`` or ``assistant``), and what."""


class WordingError(ValueError):
    """A file that cannot be used, and why."""


class Example(Struct, frozen=True, forbid_unknown_fields=True):
    """A question with its outline and, perhaps, what point ``number`` of it says."""

    question: str
    points: tuple[str, ...]
    number: int = 0
    text: str = ""

    @property
    def outline(self) -> str:
        """The outline as the model is to write it."""
        return "\n".join(f"{number}. {point}" for number, point in enumerate(self.points, 1))


class Wording(Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The wording in one language.

    ``outline`` has a place for ``{question}``, ``point`` for ``{number}`` and ``{heading}``,
    ``begin``, for models that cannot go on with what they are given, for ``{lead}``. A question in
    which the expression ``recognised_by`` is found is in this language.
    """

    outline: str
    point: str
    begin: str = "Begin with: {lead}"
    examples: tuple[Example, ...] = ()
    recognised_by: str = "(?!)"  # nothing

    def recognises(self, question: str) -> bool:
        """Whether a question is in this language."""
        return self._pattern.search(question) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.recognised_by)

    def outline_turns(self, question: str) -> list[Turn]:
        """What is said to have the question outlined; the last turn is to be continued."""
        return [("user", self._asking(question)), ("assistant", OUTLINE_START)]

    def point_turns(self, question: str, outline: str, number: str, heading: str) -> list[Turn]:
        """What is said to have one point written, up to where its own words begin."""
        return [
            ("user", self._asking(question)),
            ("assistant", outline),
            ("user", _filled(self.point, number=number, heading=heading)),
        ]

    def told_to_begin(self, turns: Sequence[Turn]) -> list[Turn]:
        """The same turns without the last one: the one before it tells how to begin instead."""
        *earlier, (role, asked), (_, lead) = turns
        return [*earlier, (role, f"{asked}\n{_filled(self.begin, lead=lead)}")]

    def example_turns(self) -> Iterator[Turn]:
        """What comes before it."""
        for example in self.examples:
            yield from self._turns_of(example)

    def _turns_of(self, example: Example) -> Iterator[Turn]:
        yield "user", self._asking(example.question)
        yield "assistant", example.outline
        if example.number:
            heading = example.points[example.number - 1]
            yield "user", _filled(self.point, number=str(example.number), heading=heading)
            yield "assistant", f"{lead(example.number, heading)} {example.text}"

    def _asking(self, question: str) -> str:
        return _filled(self.outline, question=question)


class Wordings:
    """All languages there are."""

    def __init__(self, directory: Path | None = None) -> None:
        files = {file.stem: file for file in sorted(_OWN.glob("*.toml"))}
        if directory is not None:
            files |= {file.stem: file for file in sorted(directory.glob("*.toml"))}
        self._wordings = {language: _read(files[language]) for language in sorted(files)}

    def language_of(self, question: str) -> str:
        """The first language, in alphabetical order, that recognises the question."""
        known = (name for name, each in self._wordings.items() if each.recognises(question))
        return next(known, NEUTRAL)

    def of(self, question: str) -> Wording:
        """The wording in the language of a question."""
        return self._wordings[self.language_of(question)]


def _filled(text: str, **fields: str) -> str:
    """The text with its places filled; what is put in is never looked at again."""
    return re.sub(r"\{(\w+)\}", lambda place: fields.get(place[1], place[0]), text)


def _read(file: Path) -> Wording:
    """Read one file.

    Raises:
        WordingError: it is not what it should be.
    """
    try:
        wording = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Wording)
        wording.recognises("")
    except (OSError, ValueError, re.error) as error:
        raise WordingError(f"{file}: {error}") from error
    _check(file, wording)
    return wording


def _check(file: Path, wording: Wording) -> None:
    places: Sequence[tuple[str, str]] = (
        ("{question}", wording.outline),
        ("{number}", wording.point),
        ("{heading}", wording.point),
        ("{lead}", wording.begin),
    )
    for place, text in places:
        if place not in text:
            raise WordingError(f"{file}: {text!r} has no place for {place}")
    for example in wording.examples:
        if not 0 <= example.number <= len(example.points):
            raise WordingError(f"{file}: {example.question!r} has no point {example.number}")
