"""Continuous load on a server: as one request is answered the next one is sent."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

from benchmarks.chatting import ChatAnswer
from benchmarks.processes import ContestantFailed

Task = Callable[[float], Awaitable[Sequence[ChatAnswer]]]
"""Asks one question, or several in turn; given when the clock of all tasks was started."""


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


async def under_served_load(tasks: Sequence[Task], streams: int) -> ServedLoad:
    """Do the tasks in their order, ``streams`` at a time, as long as there are so many.

    Raises:
        ContestantFailed: there are fewer tasks than streams, or a question was not answered.
    """
    if len(tasks) < streams:
        raise ContestantFailed(f"{len(tasks)} tasks do not make {streams} streams")
    started = perf_counter()
    waiting = iter(tasks)
    answers: list[ChatAnswer] = []
    ends: list[float] = []  # when each stream had nothing left to do

    async def stream() -> None:
        for task in waiting:
            answers.extend(await task(started))
        ends.append(perf_counter() - started)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(stream())
    except ExceptionGroup as failures:  # the first one has ended the other streams
        raise failures.exceptions[0] from None
    return ServedLoad(min(ends), answers)
