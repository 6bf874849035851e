"""When workers are started again, in seconds that nobody has to wait for."""

from itertools import accumulate

from server.backoff import Backoff


def test_a_worker_that_was_of_use_is_replaced_at_once() -> None:
    backoff = Backoff()
    assert [backoff.delay(was_of_use=True) for _ in range(100)] == [0] * 100


def test_no_minute_has_more_than_five_starts_that_fail() -> None:
    backoff = Backoff()
    starts = list(accumulate(backoff.delay(was_of_use=False) for _ in range(20)))
    assert starts[0] == 0
    assert max(sum(begin <= start < begin + 60 for start in starts) for begin in starts) == 5
    assert starts[-1] - starts[-2] == 60  # it is still tried


def test_one_of_use_makes_good_for_those_that_failed() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.delay(was_of_use=False)
    assert backoff.delay(was_of_use=True) == 0
    assert [backoff.delay(was_of_use=False) for _ in range(3)] == [0, 1, 2]
