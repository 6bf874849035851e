"""Drafting rests where it is measured to be slower, and is tried again."""

import pytest
from tiny_engine import Client, MakeEngine, asking

from decoding.draft import Draft, Strategy
from decoding.governor import Governor
from decoding.sequence import Sequence as Live

PLAIN = {"drafting": False, "tokens": 4, "seconds": 0.01}


def steps(governor: Governor, count: int, tokens: int, seconds: float = 0.01) -> list[bool]:
    """Steps of four sequences that draft whenever they may; drafting steps give so many tokens."""
    allowed = []
    for _ in range(count):
        drafting = governor.allows(4)
        allowed.append(drafting)
        news = {"drafting": True, "tokens": tokens, "seconds": seconds} if drafting else PLAIN
        governor.observe(4, **news)  # type: ignore[arg-type]
    return allowed


def test_a_few_plain_steps_come_first_to_compare_with() -> None:
    assert steps(Governor(), 10, tokens=8) == [False] * 3 + [True] * 7


def test_drafting_that_pays_goes_on_but_for_a_rare_check() -> None:
    allowed = steps(Governor(), 1000, tokens=8)
    assert allowed.count(False) <= 3 * 6


def test_drafting_that_does_not_pay_rests_longer_and_longer() -> None:
    allowed = steps(Governor(), 1000, tokens=5, seconds=0.02)
    assert allowed.count(True) <= 13 * 8
    assert allowed[16:40] == [False] * 24


def test_drafting_comes_back_when_it_pays_again() -> None:
    governor = Governor()
    steps(governor, 300, tokens=5, seconds=0.02)
    assert steps(governor, 400, tokens=8)[-100:].count(True) >= 97


def test_sizes_of_batches_are_judged_apart() -> None:
    governor = Governor()
    steps(governor, 30, tokens=5, seconds=0.02)
    assert not governor.allows(5)
    for _ in range(3):
        governor.observe(16, drafting=False, tokens=16, seconds=0.01)
    assert governor.allows(20)


def test_a_request_alone_may_always_draft() -> None:
    governor = Governor()
    for _ in range(40):
        governor.observe(1, drafting=True, tokens=1, seconds=1.0)
        assert governor.allows(1)


def test_the_step_in_which_strategies_catch_up_does_not_count() -> None:
    governor = Governor()
    steps(governor, 3, tokens=8)
    governor.observe(4, drafting=True, tokens=4, seconds=9.0)
    assert steps(governor, 30, tokens=8) == [True] * 30


def test_what_was_measured_is_reported_by_size_of_batch() -> None:
    governor = Governor()
    steps(governor, 30, tokens=5, seconds=0.02)
    (pace,) = governor.paces()
    assert (pace.least, pace.most, pace.is_resting) == (4, 7, True)
    assert pace.plain == pytest.approx(400)
    assert pace.drafting == pytest.approx(250)


# --- in the engine ---


class EveryThird(Governor):
    """Allows every third step, whatever was measured."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def allows(self, sequences: int) -> bool:
        self._asked += 1
        return self._asked % 3 == 0


def test_a_strategy_hears_of_every_token_said_while_it_rested(make_engine: MakeEngine) -> None:
    heard: list[int] = []

    def listening(seq: Live) -> Strategy:
        heard.extend(seq.tokens)
        while True:
            verdict = yield Draft.chain([1, 2])
            heard.extend(verdict.tokens)
            assert heard == seq.tokens

    client = Client(make_engine(governor=EveryThird()))
    request = client.ask(asking(max_tokens=30), listening)
    client.finish()
    answer = client.answer(request)
    assert (answer.error, len(answer.tokens)) == (None, 30)
    assert 0 < answer.drafted <= 2 * 11


def test_resting_changes_no_answer(make_engine: MakeEngine) -> None:
    plain, resting = Client(make_engine()), Client(make_engine(governor=EveryThird()))
    for strategy in ("autoregressive", "reference", "lookahead", "jacobi"):
        asked = asking(max_tokens=40)
        plain.ask(asked)
        drafting = resting.ask(asking(max_tokens=40, strategy=strategy))
        plain.finish()
        resting.finish()
        assert resting.answer(drafting).tokens == plain.answer(asked).tokens
