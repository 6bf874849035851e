"""What is asked: sessions of one user, made of the project's prompts or of anybody's JSONL."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.conversations import Conversation, read
from benchmarks.processes import ROOT

PROMPTS = ROOT / "benchmarks" / "prompts"

CHAT, LIST, RETRIEVAL = "chat", "list question", "retrieval"
SUMMARY, TRANSLATION = "summary", "translation"
EDIT, PREDICTED, REWRITE = "code edit", "code edit, predicted", "rewrite"
FIRST, AGAIN, REWORDED = "asked first", "asked again", "asked in other words"

_KINDS = (
    (CHAT, "open", "chat"),
    (RETRIEVAL, "reference", "retrieval_qa"),
    (SUMMARY, "open", "summary"),
    (TRANSLATION, "open", "translation"),
    (EDIT, "reference", "code_edit_true"),  # its answers as predictions would be true: left out
    (PREDICTED, "reference", "code_edit_file"),
    (REWRITE, "reference", "rewrite"),
)
_REPEATED = ((FIRST, "repeated_first"), (AGAIN, "repeated"), (REWORDED, "near_repeated"))


class Session(NamedTuple):
    """The conversations of one user, one after the other; ``system`` opens each of them."""

    name: str
    conversations: tuple[Conversation, ...]
    max_tokens: int  # of an answer
    system: str = ""


class Size(NamedTuple):
    """How much is asked in a round: of every kind a session alone, then loads of all kinds."""

    max_tokens: int = 192
    list_tokens: int = 384  # points are longer, and `auto` outlines no answer under 128
    streams: tuple[int, ...] = (4, 16)
    sessions_a_stream: float = 2.0  # in a load
    leaves_out: tuple[str, ...] = ()  # kinds of our own prompts


SHORT = Size(
    max_tokens=48,
    list_tokens=128,
    streams=(16,),
    sessions_a_stream=1.25,
    leaves_out=(SUMMARY, TRANSLATION, EDIT),
)


class Workload(NamedTuple):
    """Sessions by kind. Nobody is asked the same twice, but where asking again is the point."""

    kinds: Mapping[str, Sequence[Session]]
    size: Size

    @property
    def categories(self) -> list[str]:
        """Under which answers are counted."""
        sessions = [session for of_kind in self.kinds.values() for session in of_kind]
        found = (each.category for session in sessions for each in session.conversations)
        return list(dict.fromkeys(found))

    @property
    def most_rounds(self) -> int:
        """So many have sessions that were not asked before."""
        return max(map(len, self.kinds.values()))

    def alone(self, number: int) -> list[Session]:
        """The next session of every kind that has one left."""
        return [of_kind[number] for of_kind in self.kinds.values() if number < len(of_kind)]

    def loaded(self, streams: int, number: int) -> list[Session]:
        """Sessions of all kinds, mixed, beginning with those that are asked alone last.

        They may have been asked before, so each is opened by a message that nobody has read yet:
        no cache of prefixes helps anyone.
        """
        length = round(streams * self.size.sessions_a_stream)
        mixed = islice(self._mixed(), number * length, (number + 1) * length)
        return [
            session._replace(
                name=f"{session.name}, {place}",
                system=f"You are a helpful assistant. Conversation {streams}-{number}-{place}.",
            )
            for place, session in enumerate(mixed)
        ]

    def _mixed(self) -> Iterator[Session]:
        """All kinds in turn, each from its end to its beginning, over and over."""
        for place in count():
            for of_kind in self.kinds.values():
                yield of_kind[-1 - place % len(of_kind)]


def own(size: Size) -> Workload:
    """The project's prompts, those of each category together."""
    files = {name: read(PROMPTS / f"{name}.jsonl") for name in ("open", "reference", "lists")}
    kinds: dict[str, Sequence[Session]] = {}
    for category, file, theirs in _KINDS:
        found = [each for each in files[file] if each.category == theirs]
        kinds[category] = _sessions(category, found, size.max_tokens)
    # Six of each kind stand together in their file: taken in turn, so that rounds are alike.
    spread = [each for first in range(6) for each in files["lists"][first::6]]
    kinds[LIST] = _sessions(LIST, spread, size.list_tokens)
    kinds[AGAIN] = _repeated(files["reference"], size.max_tokens)
    return Workload({name: kinds[name] for name in kinds if name not in size.leaves_out}, size)


def given(paths: Sequence[Path], size: Size) -> Workload:
    """Anybody's JSONL, by its own categories. Raises ValueError where it is none."""
    found = [each for path in paths for each in read(path)]
    categories = dict.fromkeys(each.category for each in found)
    if not categories:
        raise ValueError(f"{', '.join(map(str, paths))}: there are no conversations in it")
    kinds = {
        name: _sessions(name, [each for each in found if each.category == name], size.max_tokens)
        for name in categories
    }
    return Workload(kinds, size)


def _sessions(category: str, found: Sequence[Conversation], max_tokens: int) -> list[Session]:
    return [
        Session(
            f"{category} {number}",
            (each._replace(category=category, prediction_from_answer=False),),
            max_tokens,
        )
        for number, each in enumerate(found, start=1)
    ]


def _repeated(found: Sequence[Conversation], max_tokens: int) -> list[Session]:
    """A question, the same again, and the same in other words."""
    columns = [
        [each._replace(category=category) for each in found if each.category == theirs]
        for category, theirs in _REPEATED
    ]
    rows = zip(*columns, strict=True)
    return [Session(f"{AGAIN} {n}", row, max_tokens) for n, row in enumerate(rows, start=1)]
