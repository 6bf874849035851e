"""The turns of a run: who is asked what, one after the other, and what is kept of it."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, NamedTuple

from rich.progress import Progress

from benchmarks.chatting import ChatAnswer
from benchmarks.conversations import Conversation
from benchmarks.machine import OtherLoad
from benchmarks.processes import ContestantFailed
from benchmarks.served_load import Task, under_served_load
from benchmarks.side_by_side import asking
from benchmarks.side_by_side.journal import Answered, Journal, Record, Tokens, answered
from benchmarks.side_by_side.servers import Server
from benchmarks.side_by_side.sessions import Session, Workload
from benchmarks.side_by_side.ways import Way

ALONE = 1
_MOST_PROBLEMS = 2  # of a way, before it is not asked any more
# Answered in points where that is allowed: what those need is read once and then kept.
_A_LIST = "What are some ways to make a long walk pleasant?"
_WARMING_UP = Session("warming up", (Conversation("", (_A_LIST,)),), 160)
_WAKING = Session("waking", (Conversation("", ("Good morning!",)),), 4)
_ANY_WAY = Way("", "URL", "", "")


class Turn(NamedTuple):
    """One way's turn: a session on its own, or many side by side."""

    way: Way
    streams: int
    round: int
    place: int
    sessions: tuple[Session, ...]

    @property
    def key(self) -> tuple[str, int, int, int]:
        """As its record has it."""
        return self.way.name, self.streams, self.round, self.place


def turns(workload: Workload, ways: Sequence[Way], number: int) -> Iterator[Turn]:
    """A round: every way is asked the same right after each other, each time another way first."""
    for place, session in enumerate(workload.alone(number)):
        categories = {each.category for each in session.conversations}
        asked = [way for way in ways if way.only is None or way.only in categories]
        for way in _rotated(asked, number + place):
            yield Turn(way, ALONE, number, place, (session,))
    for place, streams in enumerate(workload.size.streams):
        sessions = tuple(workload.loaded(streams, number))
        for way in _rotated([way for way in ways if way.takes_load], number + place):
            yield Turn(way, streams, number, place, sessions)


def _rotated(ways: Sequence[Way], number: int) -> Sequence[Way]:
    first = number % len(ways)
    return [*ways[first:], *ways[:first]]


class Run:
    """Starts servers, lets them take their turns, and keeps a journal; ``failed`` says who fell."""

    def __init__(
        self,
        servers: Mapping[str, Server],
        journal: Journal,
        tokens_of: Tokens,
        progress: Progress,
    ) -> None:
        self._servers = servers
        self._journal = journal
        self._tokens_of = tokens_of
        self._progress = progress
        self._problems: Counter[str] = Counter()
        self.failed: dict[str, str] = {}  # servers that did not start
        self.other_load: float | None = None  # while it was measuring

    def take(self, planned: Sequence[Turn], until: float) -> bool:
        """Take the turns that were not taken before; False if time ran out before the last one."""
        left = [turn for turn in planned if turn.key not in self._journal.done]
        ways = list(dict.fromkeys(turn.way for turn in left))
        try:
            self._start(ways)
            return self._take_all(left, until)
        finally:
            for way in ways:
                self._servers[way.server].stop()

    def _take_all(self, left: Sequence[Turn], until: float) -> bool:
        if not left:
            return True
        load = OtherLoad()
        try:
            for turn in self._progress.track(left, description="Asking"):
                if monotonic() > until:
                    return False
                self._take(turn)
            return True
        finally:
            self.other_load = load.share()

    def _start(self, ways: Sequence[Way]) -> None:
        started: set[str] = set()
        for way in self._progress.track(ways, description="Starting"):
            server = self._servers[way.server]
            if way.server in self.failed:
                continue
            self._say(f"Starting {way.name}")
            try:
                if way.server not in started:
                    server.start()
                    started.add(way.server)
                with _turn_of(server):
                    asyncio.run(asking.play(server, way, _WARMING_UP))
            except ContestantFailed as problem:
                self.failed[way.server] = str(problem)
                self._progress.console.print(f"{way.name} is out: {problem}", style="red")
                server.stop()

    def _take(self, turn: Turn) -> None:
        way = turn.way
        if way.server in self.failed or self._problems[way.name] >= _MOST_PROBLEMS:
            return
        self._say(f"Round {turn.round + 1}, {_title(turn)}: {way.name}")
        try:
            with _turn_of(self._servers[way.server]) as server:
                # Its memory and connections were asleep: a few tokens wake them beforehand.
                asyncio.run(asking.play(server, _ANY_WAY, _WAKING))
                record = asyncio.run(self._record(turn, server))
        except ContestantFailed as problem:
            self._problems[way.name] += 1
            self._progress.console.print(f"{way.name}: {problem}", style="red")
            record = Record(**_place(turn), problem=str(problem))
        self._journal.add(record)

    async def _record(self, turn: Turn, server: Server) -> Record:
        if turn.streams == ALONE:
            (session,) = turn.sessions
            found = await asking.play(server, turn.way, session)
            return Record(**_place(turn), answers=self._figures(turn.way, found))
        found = []
        tasks = [self._task(server, turn.way, session, found) for session in turn.sessions]
        load = await under_served_load(tasks, turn.streams)
        answers = self._figures(turn.way, found)
        counts = zip(load.answers, answers, strict=True)
        recounted = [answer._replace(num_tokens=figures.tokens) for answer, figures in counts]
        speed = load._replace(answers=recounted).tokens_per_second
        return Record(**_place(turn), answers=answers, speed=speed)

    def _figures(self, way: Way, found: Sequence[asking.Turn]) -> tuple[Answered, ...]:
        return tuple(answered(way, each, self._tokens_of) for each in found)

    def _task(self, server: Server, way: Way, session: Session, found: list[asking.Turn]) -> Task:
        """Plays a session; what was found stands in the order in which the load has it."""

        async def played(started: float) -> list[ChatAnswer]:
            turns = await asking.play(server, way, session, started)
            found.extend(turns)
            return [turn.answer for turn in turns]

        return played

    def _say(self, line: str) -> None:
        """Where bars are not drawn, say it in lines."""
        if not self._progress.console.is_terminal:
            self._progress.console.print(line, highlight=False)


@contextmanager
def _turn_of(server: Server) -> Iterator[Server]:
    """Whoever has the turn computes, everyone else is frozen."""
    server.thaw()
    try:
        yield server
    finally:
        server.freeze()


def _title(turn: Turn) -> str:
    return turn.sessions[0].name if turn.streams == ALONE else f"{turn.streams} streams"


def _place(turn: Turn) -> dict[str, Any]:
    way, streams, number, place = turn.key
    return {"way": way, "streams": streams, "round": number, "place": place}
