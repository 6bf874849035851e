"""When those who were refused are to come again: one after the other, as places become free.

Told the same time, all would come at once and be refused once more, and writing refusals takes the
processors that answers need.
"""

import math

_LONGEST_WAIT = 60  # seconds that a client is asked to wait
_FIRST_GUESS = 2.0  # seconds that an answer takes, before any was given
_SHARE = 1 / 32  # of the latest answer in how long they take
_CALLED = 2  # for each place that becomes free: not all who are called come


def whole_seconds(seconds: float) -> int:
    """As a client is told it."""
    return min(_LONGEST_WAIT, max(1, math.ceil(seconds)))


class Comebacks:
    """Turns for a number of places. Times are seconds of one clock."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._held_seconds: float | None = None  # how long a place is held, on average
        self._last_turn = 0.0

    def freed(self, held_seconds: float) -> None:
        """Learn how long a place was held."""
        known = held_seconds if self._held_seconds is None else self._held_seconds
        self._held_seconds = known + _SHARE * (held_seconds - known)

    def next_turn(self, now: float) -> int:
        """Seconds after which the next one who is refused is to come again."""
        held_seconds = _FIRST_GUESS if self._held_seconds is None else self._held_seconds
        turn = max(self._last_turn, now) + held_seconds / (self._places * _CALLED)
        self._last_turn = min(turn, now + _LONGEST_WAIT)
        return whole_seconds(turn - now)
