"""Continuous load on a server: as one request is answered the next one is sent."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from benchmarks.chatting import ChatAnswer, ChatServer
from benchmarks.processes import ContestantFailed


class ServedLoad(NamedTuple):
    """What a server answered while so many requests as planned were in progress.

    ``seconds`` is how long that was, ``answers`` are all answers, those of after it included.
    """

    seconds: float
    answers: Sequence[ChatAnswer]

    @property
    def tokens_per_second(self) -> float:
        """Of all requests together, an answer that was not complete counted as far as it was."""
        return sum(each.tokens_until(self.seconds) for each in self.answers) / self.seconds

    @property
    def strategies(self) -> Mapping[str, int]:
        """How many answers each strategy gave."""
        return Counter(str(each.decoding.get("strategy")) for each in self.answers)


async def under_served_load(
    server: ChatServer,
    questions: Sequence[str],
    streams: int,
    max_tokens: int,
    decoding: Mapping[str, Any],
) -> ServedLoad:
    """Ask the questions in their order, ``streams`` at a time, as long as there are so many.

    Raises:
        ContestantFailed: there are fewer questions than streams, or one was not answered.
    """
    if len(questions) < streams:
        raise ContestantFailed(f"{len(questions)} questions do not make {streams} streams")
    started = perf_counter()
    waiting = iter(questions)
    answers: list[ChatAnswer] = []
    ends: list[float] = []  # when each stream had nothing left to ask

    async def stream() -> None:
        answers.extend(
            [await server.ask(each, max_tokens, decoding, started=started) for each in waiting]
        )
        ends.append(perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(stream())
    return ServedLoad(min(ends), answers)
