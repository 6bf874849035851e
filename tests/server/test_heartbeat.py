"""When silence means that a worker hangs."""

from itertools import count

import pytest

from server.heartbeat import LOOK_SECONDS, Pulse


def seconds_until_overdue(pulse: Pulse, begin: float, *, is_busy: bool) -> float:
    """Of listening in vain, looking as often as we do."""
    for look in count(1):
        now = begin + look * LOOK_SECONDS
        pulse.look(now)
        if pulse.is_overdue(is_busy=is_busy):
            return now - begin
    raise AssertionError


@pytest.mark.parametrize(
    ("is_busy", "announced", "patience"),
    [(False, 0.0, 1.0), (True, 0.0, 5.0), (True, 2.0, 25.0), (False, 0.5, 6.0)],
)
def test_patience_depends_on_what_the_worker_does(
    is_busy: bool, announced: float, patience: float
) -> None:
    pulse = Pulse(0.0)
    pulse.beat(10.0, announced)
    found = seconds_until_overdue(pulse, 10.0, is_busy=is_busy)
    assert found == pytest.approx(patience, abs=2 * LOOK_SECONDS)


def test_long_documents_take_their_time() -> None:
    """Sixteen choices that index 262,144 tokens each have been seen to take 3.5 seconds."""
    pulse = Pulse(0.0)
    pulse.silence = 30.0
    assert not pulse.is_overdue(is_busy=True, tokens=16 * 262_144)
    assert pulse.is_overdue(is_busy=True, tokens=262_144)


def test_a_beat_ends_the_silence_and_what_was_announced() -> None:
    pulse = Pulse(0.0)
    pulse.beat(1.0, 100.0)
    pulse.look(1.2)
    pulse.beat(1.3)
    assert pulse.silence == 0
    assert seconds_until_overdue(pulse, 1.3, is_busy=False) == pytest.approx(1.1, abs=0.11)


def test_time_in_which_nobody_listened_is_not_silence() -> None:
    """The machine slept, or this process was stopped: what was said meanwhile is not read yet."""
    pulse = Pulse(0.0)
    pulse.look(1000.0)
    assert not pulse.is_overdue(is_busy=False)
    assert pulse.silence == pytest.approx(2 * LOOK_SECONDS)
