"""Drafts are cut to what makes the batch fastest; one made-up price list decides it all."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import Client, FixedCost, MakeEngine, asking
from trees import drafts

from decoding.budget import Budget, Wish
from decoding.cost import ROWS, CostModel
from decoding.draft import Draft
from decoding.request import Decision, Reference
from decoding.tree import LEAST_CHANCE

# Seconds with as many rows as the cost model tells apart
FREE = [1.0 for _ in ROWS]
FLAT_TO_8 = [max(1.0, rows / 8) for rows in ROWS]
STEEP = [float(rows) for rows in ROWS]
SLOWLY_RISING = [1.0 + max(0, rows - 8) / 100 for rows in ROWS]
IN_SIXTEENS = [1.0 + (rows - 1) // 16 for rows in ROWS]


def budget(by_rows: Sequence[float], per_key: float = 0.0, per_pair: float = 0.0) -> Budget:
    return Budget(CostModel(by_rows, per_key, per_pair))


def chain(*chances: float, source: str = "prompt") -> Draft:
    size = len(chances)
    return Draft(tuple(range(size)), tuple(range(-1, size - 1)), chances, (source,) * size)


def sizes(found: Sequence[Draft]) -> list[int]:
    return [len(draft.tokens) for draft in found]


def granted(weighing: Budget, *wished: Draft, context: int = 100, most: int = 512) -> list[int]:
    drafts, decision = weighing.share([Wish(draft, context) for draft in wished], most)
    assert decision.granted == sum(sizes(drafts))
    return sizes(drafts)


def shared(by_rows: Sequence[float], *wished: Draft, most: int = 512) -> list[int]:
    return granted(budget(by_rows), *wished, most=most)


def test_what_costs_nothing_is_drafted_however_unlikely() -> None:
    assert shared(FREE, chain(0.5, 0.2, 0.01)) == [3]


def test_nothing_is_drafted_where_every_row_costs_as_much_as_a_step() -> None:
    assert shared(STEEP, chain(0.9, 0.8)) == [0]


def test_a_draft_ends_where_the_rate_would_fall() -> None:
    assert shared(FLAT_TO_8, chain(*[0.9**depth for depth in range(1, 31)])) == [7]


def test_a_certain_draft_goes_on_as_long_as_a_row_costs_less_than_a_step() -> None:
    assert shared(SLOWLY_RISING, chain(*[1.0] * 100)) == [100]


def test_rows_come_in_sixteens() -> None:
    """The sixteenth row of a matrix tile is free, the seventeenth costs as much as all of them."""
    assert shared(IN_SIXTEENS, chain(*[0.9**depth for depth in range(1, 31)])) == [15]


def test_the_likely_draft_gets_the_rows_of_the_unlikely_one() -> None:
    assert shared(FLAT_TO_8, chain(*[0.95] * 9), chain(*[0.1] * 9)) == [6, 0]


def test_a_full_batch_drafts_nothing() -> None:
    alone, *_ = shared(FLAT_TO_8, chain(0.6, 0.4))
    crowded = shared(FLAT_TO_8, *[chain(0.6, 0.4)] * 8)
    assert (alone, crowded) == (2, [0] * 8)


def test_long_contexts_make_a_row_dearer() -> None:
    by_pair = budget(FREE, per_pair=1e-3)
    short, long = chain(0.5, 0.5), chain(0.5, 0.5)
    assert granted(by_pair, short, context=10) == [2]
    assert granted(by_pair, long, context=5000) == [0]


def test_no_more_nodes_than_there_is_room_for() -> None:
    assert shared(FREE, chain(0.9, 0.8, 0.7), chain(0.85, 0.2), most=3) == [2, 1]
    assert shared(FREE, chain(0.9), most=0) == [0]


def test_a_draft_without_estimates_counts_as_certain() -> None:
    assert shared(FLAT_TO_8, Draft.chain(range(20))) == [7]


def test_estimates_are_corrected_by_how_they_turned_out() -> None:
    learning = budget(FREE)
    for _ in range(100):
        learning.learn(chain(0.8, 0.7, source="prompt"), accepted=[])
        learning.learn(chain(0.5, 0.4, source="answer"), accepted=[0, 1])
    assert learning.correction("prompt", 0.8) == 0.25
    assert learning.correction("prompt", 0.1) == 1.0
    assert learning.correction("answer", 0.45) == 1.25
    assert learning.correction("document", 0.8) == 1.0


def test_nodes_that_prepare_guesses_are_worth_what_they_say() -> None:
    learning = budget(FREE)
    for _ in range(100):
        learning.learn(chain(0.3, source=""), accepted=[])
    assert learning.corrections() == {}
    _, decision = learning.share([Wish(chain(0.3, source=""), 100)], 512)
    assert decision.expected_tokens == pytest.approx(1.3)


def test_a_decision_says_what_it_is_made_of() -> None:
    slow = budget([0.5 + rows / 2 for rows in ROWS], per_key=0.001)
    _, decision = slow.share([Wish(chain(0.9, 0.2), 100), Wish(chain(0.4), 50)], 512)
    assert decision == Decision(
        sequences=2,
        context_tokens=150,
        proposed=3,
        granted=1,
        expected_tokens=pytest.approx(2.9),
        plain_seconds=pytest.approx(1.65),
        seconds=pytest.approx(2.151),
        least_chance=pytest.approx(0.8 * 0.4),  # of the likeliest that was not worth its price
    )


def test_what_is_proposed_goes_down_again_after_a_dear_moment() -> None:
    weighing = budget(STEEP)
    granted(weighing, chain(0.9))
    dear = weighing.least_chance
    for _ in range(5):
        granted(weighing, Draft())
    assert dear > 0.7
    assert weighing.least_chance == LEAST_CHANCE


def test_corrections_are_reported_by_source() -> None:
    learning = budget(FREE)
    learning.learn(chain(0.8, 0.4, source="prompt"), accepted=[0])
    learning.learn(chain(0.1, source="recycled"), accepted=[])
    assert learning.corrections() == {"prompt": pytest.approx(1 / 1.2), "recycled": 0.0}


def test_a_source_that_keeps_failing_is_drafted_less() -> None:
    learning = budget([0.7 + 0.3 * rows for rows in ROWS])
    before = granted(learning, chain(0.5))
    for _ in range(50):
        learning.learn(chain(0.5), accepted=[])
    after = granted(learning, chain(0.5))
    assert (before, after) == ([1], [0])


@given(
    st.lists(drafts(), min_size=1, max_size=5),
    st.sampled_from([FREE, FLAT_TO_8, STEEP]),
    st.integers(0, 30),
    st.randoms(use_true_random=False),
)
def test_what_is_left_is_a_part_of_each_tree(
    wished: list[Draft], by_rows: list[float], most: int, random: Random
) -> None:
    scored = [_scored(draft, random) for draft in wished]
    found, _ = budget(by_rows).share([Wish(draft, 10) for draft in scored], most)
    assert sum(sizes(found)) <= most
    for draft, part in zip(scored, found, strict=True):
        places = [_places(draft), _places(part)]
        assert set(places[1]) <= set(places[0])


def _scored(draft: Draft, random: Random) -> Draft:
    chances: list[float] = []
    for parent in draft.parents:
        above = chances[parent] if parent >= 0 else 1.0
        chances.append(above * random.random())
    return Draft(draft.tokens, draft.parents, tuple(chances), ("prompt",) * len(chances))


def _places(draft: Draft) -> list[tuple[tuple[int, ...], float]]:
    """What every node spells, and its chance."""
    spelled: list[tuple[int, ...]] = []
    for token, parent in zip(draft.tokens, draft.parents, strict=True):
        spelled.append((*(spelled[parent] if parent >= 0 else ()), token))
    return list(zip(spelled, draft.chances, strict=True))


@pytest.mark.parametrize(("by_rows", "steps"), [(FREE, 2), (STEEP, 40)])
def test_the_engine_drafts_by_the_price(
    make_engine: MakeEngine, by_rows: list[float], steps: int
) -> None:
    """Predictions come true at once, or are not even tried."""
    client = Client(make_engine())
    request = client.ask(asking(max_tokens=40))
    client.finish()
    known = client.answer(request).tokens
    again = Client(make_engine(cost=FixedCost(by_rows, 0.0, 0.0)))
    prediction = Reference("prediction", known, likeness=1.0)
    copying = again.ask(asking(max_tokens=40, strategy="reference", references=(prediction,)))
    again.finish()
    assert again.answer(copying).tokens == known
    assert again.answer(copying).steps <= steps
    assert (again.answer(copying).drafted == 0) == (by_rows is STEEP)


# --- what others' drafts may cost a sequence ---

RISING = [0.95 + 0.05 * rows for rows in ROWS]  # 1.0 for one row, 1.05 for two


def balanced(*wished: tuple[Draft, float]) -> list[int]:
    drafts, _ = budget(RISING).share([Wish(draft, 0, balance) for draft, balance in wished], 512)
    return sizes(drafts)


def test_a_sequence_that_has_nothing_to_spare_waits_for_no_other() -> None:
    """Two rows take 1.05, five 1.2: to draft nothing costs 0.11 tokens beyond three per cent."""
    generous, poor = (Draft(), 0.12), (Draft(), 0.1)
    drafting = chain(0.95, 0.9, 0.85), 0.0
    assert balanced(drafting, generous) == [3, 0]
    assert balanced(drafting, poor)[0] < 3
    assert balanced(drafting, (Draft(), 0.0)) == [0, 0]


def test_who_drafts_itself_does_not_mind() -> None:
    assert balanced((chain(0.9), 0.0), (chain(0.9), 0.0)) == [1, 1]


def test_what_nobody_has_to_wait_for_is_not_bounded() -> None:
    poor = Wish(Draft(), 100, 0.0)
    drafts, _ = budget(FREE).share([Wish(chain(0.5, 0.2), 100, 0.0), poor], 512)
    assert sizes(drafts) == [2, 0]


def test_what_little_there_is_to_spare_goes_to_what_brings_most() -> None:
    """An eighth of a token pays for a row as such, but not where waiting counts for more."""
    assert balanced((chain(0.12), 10.0), (Draft(), 10.0)) == [1, 0]
    assert balanced((chain(0.12), 0.3), (Draft(), 0.3)) == [0, 0]
    assert balanced((chain(0.9), 0.3), (Draft(), 0.3)) == [1, 0]
