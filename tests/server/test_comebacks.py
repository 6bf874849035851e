"""Whoever is refused is told a time, and not all of them the same one."""

from server.comebacks import Comebacks, whole_seconds


def test_before_any_answer_was_given_the_first_ones_come_soon() -> None:
    turns = Comebacks(places=4)
    assert [turns.next_turn(100.0) for _ in range(8)] == [1, 1, 1, 1, 2, 2, 2, 2]


def test_twice_as_many_are_called_as_places_become_free() -> None:
    turns = Comebacks(places=10)
    turns.freed(20.0)  # two seconds a place
    told = [turns.next_turn(0.0) for _ in range(60)]
    assert told[:3] == [1, 2, 3]
    assert told[59] == 60


def test_the_time_that_passes_is_taken_off() -> None:
    turns = Comebacks(places=1)
    turns.freed(20.0)
    assert turns.next_turn(0.0) == 10
    assert turns.next_turn(15.0) == 10  # the first one's turn is over
    assert turns.next_turn(15.0) == 20


def test_nobody_waits_for_longer_than_a_minute() -> None:
    turns = Comebacks(places=1)
    turns.freed(1000.0)
    assert {turns.next_turn(0.0) for _ in range(100)} == {60}
    turns.freed(0.0)
    assert whole_seconds(0.0) == 1


def test_answers_that_become_faster_bring_clients_back_sooner() -> None:
    turns = Comebacks(places=1)
    turns.freed(50.0)
    for _ in range(200):
        turns.freed(2.0)
    assert turns.next_turn(0.0) <= 2
