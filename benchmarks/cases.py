"""What reference copy is measured on, and what is found out: plain values."""

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.answering import Answer
from benchmarks.loops import ends_in_a_loop
from benchmarks.replay import Replay
from decoding.request import Reference
from server.engine_client import Load
from server.scheduler import Choice, Known, choose


class Case(NamedTuple):
    """One turn, ready to be asked, and what plain decoding answers."""

    category: str
    prompt: tuple[int, ...]
    known: Known
    references: tuple[Reference, ...]
    answer: tuple[int, ...]

    @property
    def choice(self) -> Choice:
        """What the server would do."""
        return choose({}, self.known, Load())


class Run(NamedTuple):
    """One case, decoded both ways right after each other."""

    plain: Answer
    copied: Answer


class Result(NamedTuple):
    """A case with all that was found out about it."""

    case: Case
    runs: Sequence[Run]
    lookup: Replay  # by transformers' prompt lookup

    @property
    def copied(self) -> Replay:
        """What reference copy needed; the same every time."""
        return self.runs[0].copied.replay

    @property
    def is_loop(self) -> bool:
        """Whether the answer ends in a repetition loop."""
        return ends_in_a_loop(self.case.answer)
