"""What was measured so far, a line a turn, in a file that an interrupted run is taken up from."""

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.chatting import ChatAnswer
from benchmarks.loops import ends_in_a_loop
from benchmarks.side_by_side.asking import Turn
from benchmarks.side_by_side.sessions import Workload
from benchmarks.side_by_side.ways import Way

Tokens = Callable[[str], Sequence[int]]
"""The model's tokeniser: the same for everyone, who may count in ways of their own."""


class Answered(Struct, frozen=True, kw_only=True):
    """One answer, in figures; seconds count from when it was asked for.

    ``forwards`` is None where the server does not tell. ``gaps`` are the seconds between one piece
    of text and the next one.
    """

    session: str
    number: int
    category: str
    tokens: int
    first: float
    seconds: float
    decode_speed: float | None
    gaps: tuple[float, ...]
    forwards: int | None
    strategy: str
    is_loop: bool
    text: str


class Record(Struct, frozen=True, kw_only=True):
    """What one way did with one session, or with a load of them.

    ``speed`` is tokens a second of a whole load while it was full. A ``problem`` is why there are
    no answers.
    """

    way: str
    streams: int
    round: int
    place: int  # among the turns of the round
    answers: tuple[Answered, ...] = ()
    speed: float | None = None
    problem: str = ""

    @property
    def key(self) -> tuple[str, int, int, int]:
        """Which turn it was."""
        return self.way, self.streams, self.round, self.place


class Journal:
    """The records of a run, on disk as soon as they are made; what failed is tried once more."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            path.unlink(missing_ok=True)
        self.records = list(_read(path)) if path.exists() else []
        self.done = {record.key for record in self.records}

    def add(self, record: Record) -> None:
        """Keep a record."""
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")
        self.records.append(record)
        self.done.add(record.key)


def _read(path: Path) -> Sequence[Record]:
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:  # a run was ended while it wrote: that turn is taken again
        path.write_bytes(b"".join(line + b"\n" for line in lines))
    records = [msgspec.json.decode(line, type=Record) for line in lines]
    return [record for record in records if not record.problem]


def name_of(commit: str, model: str, workload: Workload) -> str:
    """A name that says what was measured: another commit or workload begins another journal."""
    asked = hashlib.sha256(repr((model, workload)).encode()).hexdigest()
    return f"{commit.replace(' ', '-')}-{asked[:12]}.jsonl"


def answered(way: Way, turn: Turn, tokens_of: Tokens) -> Answered:
    """An answer in figures."""
    answer = turn.answer
    tokens = tokens_of(answer.text)
    return Answered(
        session=turn.session,
        number=turn.number,
        category=turn.category,
        tokens=len(tokens),
        first=answer.first - answer.sent,
        seconds=answer.seconds - answer.sent,
        decode_speed=_decode_speed(answer, len(tokens)),
        gaps=_gaps(answer),
        forwards=_forwards(way, answer),
        strategy=str(answer.decoding.get("strategy", "")),
        is_loop=ends_in_a_loop(tokens),
        text=answer.text,
    )


def _decode_speed(answer: ChatAnswer, tokens: int) -> float | None:
    """Tokens a second behind the first piece, until the last one."""
    (first, characters), last = answer.pieces[0], answer.pieces[-1][0]
    if last <= first:
        return None
    return tokens * (1 - characters / len(answer.text)) / (last - first)


def _gaps(answer: ChatAnswer) -> tuple[float, ...]:
    times = [seconds for seconds, _ in answer.pieces]
    return tuple(round(b - a, 5) for a, b in pairwise(times))


def _forwards(way: Way, answer: ChatAnswer) -> int | None:
    """What Stride, llama.cpp and one server of transformers say; others do not tell."""
    if "model_steps" in answer.decoding:
        return int(answer.decoding["model_steps"])
    if "predicted_n" in answer.timings:
        accepted = answer.timings.get("draft_n_accepted", 0)
        return int(answer.timings["predicted_n"]) - int(accepted)
    return answer.num_tokens if way.usage_is_forwards else None
