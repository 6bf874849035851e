"""How long an engine's loop may be silent before it counts as hung.

A worker has no thread that says "alive": it beats from the loop that computes, so that a beat
means progress. While idle it beats every ``BEAT_SECONDS``; while busy the report of every step is a
beat, and a forward that will take long is announced before it begins.
"""

BEAT_SECONDS = 0.25  # between two beats of an idle worker
ANNOUNCED_SECONDS = 0.1  # forwards predicted to take longer are announced
LOOK_SECONDS = 0.1  # between two looks at a worker

_IDLE_SECONDS = 1.0
_BUSY_SECONDS = 5.0  # generous: machines are short of time now and then
_SECONDS_PER_TOKEN = (
    1e-5  # of prompts and documents, which strategies index: ten times what it takes
)
_TIMES_LONGER = 10  # than predicted a forward may take


class Pulse:
    """A worker's heartbeat, as heard from outside. ``now`` is always of one monotonic clock.

    Silence is counted in looks, and no look counts for more than two: what a worker said while this
    process itself was held up has not been read yet.
    """

    def __init__(self, now: float) -> None:
        self.silence = 0.0  # seconds for which this process listened in vain
        self.last_beat = now
        self._last_look = now
        self._announced = 0.0

    def beat(self, now: float, announced: float = 0.0) -> None:
        """The loop turned; it will not turn again for about ``announced`` seconds."""
        self.silence = 0.0
        self.last_beat = self._last_look = now
        self._announced = announced

    def look(self, now: float) -> None:
        """Count the time since the last look."""
        self.silence += min(now - self._last_look, 2 * LOOK_SECONDS)
        self._last_look = now

    def is_overdue(self, *, is_busy: bool, tokens: int = 0) -> bool:
        """Whether the silence is longer than any honest work explains.

        ``tokens`` are those of all prompts and documents that the worker has in its hands.
        """
        patience = _BUSY_SECONDS if is_busy else _IDLE_SECONDS
        of_work = _TIMES_LONGER * self._announced + _SECONDS_PER_TOKEN * tokens
        return self.silence > patience + of_work
