"""From logits to tokens: the right distribution, the same draw whatever is computed beside it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from decoding.request import Sampling
from decoding.sampling import Row, choice_seed, choose, log_probabilities, uniform

GREEDY = Sampling(temperature=0)
SIZES = st.sampled_from([1, 2, 3, 7, 16, 31, 128, 131, 1025, 4099])


def random_logits(rows: int, vocabulary: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def row(position: int = 0, *, seed: int = 0, **sampling: Any) -> Row:
    return Row(Sampling(**sampling), seed=seed, position=position)


def draws(logits: Sequence[float], count: int, **sampling: Any) -> Counter[int]:
    """How often each token is drawn at ``count`` positions."""
    rows = [row(position, **sampling) for position in range(count)]
    return Counter(choose(torch.tensor([list(logits)]).expand(count, -1), rows))


def assert_drawn_from(counts: Counter[int], probabilities: Sequence[float]) -> None:
    """Chi-square at a quantile that a right sampler misses once in a million (up to 7 classes)."""
    total = counts.total()
    possible = [token for token, p in enumerate(probabilities) if p > 0]
    assert set(counts) <= set(possible)
    statistic = sum(
        (counts[token] - total * probabilities[token]) ** 2 / (total * probabilities[token])
        for token in possible
    )
    assert statistic < 40


# Independence of the batch


@st.composite
def samplings(draw: st.DrawFn) -> Sampling:
    return Sampling(
        temperature=draw(st.sampled_from([0.0, 1e-6, 0.3, 1.0, 1.7])),
        top_p=draw(st.sampled_from([1.0, 0.9, 0.5, 1e-9])),
        top_k=draw(st.sampled_from([0, 1, 5, 10_000])),
        min_p=draw(st.sampled_from([0.0, 0.05, 1.0])),
        presence_penalty=draw(st.sampled_from([0.0, 0.5])),
        frequency_penalty=draw(st.sampled_from([0.0, -0.3])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
        logit_bias=draw(st.sampled_from([{}, {0: 1.5}])),
    )


@settings(max_examples=40)
@given(
    st.lists(samplings(), min_size=1, max_size=9),
    SIZES,
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.integers(0, 100),
)
def test_a_row_is_chosen_alike_alone_and_among_others(
    mixed: list[Sampling], vocabulary: int, dtype: torch.dtype, seed: int
) -> None:
    logits = random_logits(len(mixed), vocabulary, seed).to(dtype)
    rows = [
        Row(sampling, seed=i, position=seed + i, prompt=[0], answer=[vocabulary - 1])
        for i, sampling in enumerate(mixed)
    ]
    together = choose(logits, rows)
    alone = [choose(logits[i : i + 1], [each])[0] for i, each in enumerate(rows)]
    backwards = choose(logits.flip(0), rows[::-1])[::-1]
    assert together == alone == backwards


def test_choosing_leaves_the_logits_alone() -> None:
    """They are read again for the log-probabilities."""
    logits = random_logits(2, 9)
    before = logits.clone()
    choose(logits, [row(top_k=2, logit_bias={1: 5.0}), row(temperature=0, logit_bias={1: 5.0})])
    assert torch.equal(logits, before)


def test_no_rows_choose_nothing() -> None:
    assert choose(torch.empty(0, 9), []) == []


# The random number


@given(st.integers(-(2**63), 2**64), st.integers(0, 2**20))
def test_the_number_depends_on_seed_and_position_alone(seed: int, position: int) -> None:
    assert 0 <= uniform(seed, position) < 1
    assert uniform(seed, position) == uniform(seed, position)


def test_neighbouring_seeds_and_positions_have_unrelated_numbers() -> None:
    numbers = torch.tensor([[uniform(s, p) for p in range(200)] for s in range(200)])
    assert len(numbers.unique()) > 39_000
    for shifted in (numbers[1:] * numbers[:-1], numbers[:, 1:] * numbers[:, :-1]):
        assert abs(shifted.mean().item() - 0.25) < 0.01


def test_choices_of_one_request_have_seeds_of_their_own() -> None:
    assert choice_seed(5, 0) == 5
    seeds = {choice_seed(seed, index) for seed in range(50) for index in range(50)}
    assert len(seeds) == 50 * 50


def test_the_seed_and_the_position_both_change_the_draw() -> None:
    logits = torch.zeros(1, 1000)
    by_seed = {choose(logits, [row(seed=seed)])[0] for seed in range(50)}
    by_position = {choose(logits, [row(position)])[0] for position in range(50)}
    assert min(len(by_seed), len(by_position)) > 40


# The distribution

LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0, -3.0]


def softmax(logits: Sequence[float]) -> list[float]:
    probabilities: list[float] = torch.tensor(logits).double().softmax(-1).tolist()
    return probabilities


def renormalised(kept: int) -> list[float]:
    """The distribution of LOGITS cut to its first tokens, which are its likeliest."""
    return [*softmax(LOGITS[:kept]), *[0.0] * (len(LOGITS) - kept)]


def test_tokens_are_drawn_from_the_softmax() -> None:
    assert_drawn_from(draws(LOGITS, 20_000), softmax(LOGITS))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_the_logits(temperature: float) -> None:
    divided = [logit / temperature for logit in LOGITS]
    assert_drawn_from(draws(LOGITS, 20_000, temperature=temperature), softmax(divided))


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        ({"top_k": 3}, 3),
        ({"top_k": 1}, 1),
        ({"top_k": 100}, 6),
        ({"top_p": 0.5}, 1),  # the first alone holds 0.55
        ({"top_p": 0.75}, 2),
        ({"top_p": 0.8}, 3),
        ({"top_p": 1e-9}, 1),
        ({"min_p": 0.2}, 3),  # the third is e^-1.5 = 0.22 of the first
        ({"min_p": 1.0}, 1),
        ({"top_k": 4, "top_p": 0.95, "min_p": 0.2}, 3),
    ],
)
def test_filters_keep_the_likeliest_in_proportion(sampling: dict[str, float], kept: int) -> None:
    assert_drawn_from(draws(LOGITS, 4000, **sampling), renormalised(kept))


def test_filters_see_the_temperature() -> None:
    """At temperature 2 the first token holds 0.38, not 0.55."""
    assert set(draws(LOGITS, 500, temperature=2, top_p=0.5)) == {0, 1}


def test_top_p_looks_at_what_top_k_left() -> None:
    """Of the first two tokens the first holds 0.73; of all it would hold 0.55."""
    assert set(draws(LOGITS, 500, top_k=2, top_p=0.6)) == {0}


@pytest.mark.parametrize("sampling", [{"top_k": 2}, {"top_p": 0.3}])
def test_equal_tokens_stay_together(sampling: dict[str, float]) -> None:
    assert set(draws([1.0, 1.0, 1.0, -9.0], 500, **sampling)) == {0, 1, 2}


def test_a_nucleus_may_be_wider_than_the_usual_candidates() -> None:
    """Of 4,000 nearly equal tokens the likeliest 1,024 hold a quarter, not a half."""
    logits = (torch.arange(4000) * -1e-4).tolist()
    probabilities = torch.tensor(softmax(logits))
    width = int((probabilities.cumsum(0) < 0.5).sum()) + 1
    drawn = draws(logits, 400, top_p=0.5)
    assert 1024 < width - 100 < max(drawn) < width


# Greedy


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [2, 33, 1000, 49_153])
def test_greedy_takes_the_lowest_id_of_a_tie(vocabulary: int, dtype: torch.dtype) -> None:
    logits = torch.zeros(3, vocabulary, dtype=dtype)
    logits[1, vocabulary // 2 :] = 1
    logits[2, -1] = 1
    chosen = choose(logits, [row(temperature=0)] * 3)
    assert chosen == [0, vocabulary // 2, vocabulary - 1]


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-45, 1e-300])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    """Rounded to a float32 zero, it divided zero by zero and chose an id past the vocabulary."""
    logits = random_logits(20, 131)
    rows = [row(position, temperature=temperature) for position in range(20)]
    assert choose(logits, rows) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [1e9, 1e38, 1e300])
def test_a_huge_temperature_draws_any_token_but_the_banned(temperature: float) -> None:
    """Minus infinity divided by infinity is NaN, too."""
    rows = [
        Row(Sampling(temperature=temperature), seed=0, position=position, banned=[2])
        for position in range(4000)
    ]
    counts = Counter(choose(torch.tensor([LOGITS]).expand(4000, -1), rows))
    assert_drawn_from(counts, [0.2, 0.2, 0, 0.2, 0.2, 0.2])


# Penalties, bias, bans


def plainly_adjusted(logits: Sequence[float], each: Row) -> list[float]:
    """Penalties and bias as the documentation of the request says, a token at a time."""
    sampling, adjusted = each.sampling, []
    for token, logit in enumerate(logits):
        if token in each.prompt or token in each.answer:
            penalty = sampling.repetition_penalty
            logit = logit / penalty if logit > 0 else logit * penalty
        count = list(each.answer).count(token)
        logit -= sampling.presence_penalty * (count > 0) + sampling.frequency_penalty * count
        adjusted.append(logit + sampling.logit_bias.get(token, 0))
    return adjusted


@settings(max_examples=50)
@given(
    st.lists(st.floats(-4, 4, width=16), min_size=5, max_size=5, unique=True),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.lists(st.integers(0, 4), max_size=6),
    st.sampled_from([1.0, 0.5, 1.5]),
    st.sampled_from([0.0, 1.0, -2.0]),
    st.sampled_from([0.0, 0.75, -0.5]),
    st.dictionaries(st.integers(0, 4), st.sampled_from([-100.0, -1.0, 2.0, 100.0])),
)
def test_penalties_and_bias_are_those_of_a_plain_loop(
    logits: list[float],
    prompt: list[int],
    answer: list[int],
    repetition: float,
    presence: float,
    frequency: float,
    bias: dict[int, float],
) -> None:
    sampling = Sampling(
        temperature=0,
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=bias,
    )
    each = Row(sampling, seed=0, position=0, prompt=prompt, answer=answer)
    expected = plainly_adjusted(logits, each)
    (chosen,) = choose(torch.tensor([logits]), [each])
    assert expected[chosen] == pytest.approx(max(expected), abs=1e-5)


def test_presence_and_frequency_leave_the_prompt_alone() -> None:
    sampling = Sampling(temperature=0, presence_penalty=2, frequency_penalty=2)
    each = Row(sampling, seed=0, position=0, prompt=[0, 0, 0])
    assert choose(torch.tensor([[1.0, 0.5]]), [each]) == [0]


def test_repetition_looks_at_the_prompt_too() -> None:
    each = Row(Sampling(temperature=0, repetition_penalty=3), seed=0, position=0, prompt=[0])
    assert choose(torch.tensor([[1.0, 0.5]]), [each]) == [1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_of_a_hundred_decides(temperature: float) -> None:
    wanted = draws(LOGITS, 200, temperature=temperature, logit_bias={5: 100.0})
    unwanted = draws(LOGITS, 200, temperature=temperature, logit_bias={0: -100.0, 1: -100.0})
    assert set(wanted) == {5}
    assert not {0, 1} & set(unwanted)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_banned_token_is_not_chosen_against_any_bias(temperature: float) -> None:
    sampling = Sampling(temperature=temperature, logit_bias={0: 100.0})
    each = Row(sampling, seed=0, position=0, banned=(0, 1))
    rows = [replace(each, position=position) for position in range(200)]
    assert not {0, 1} & set(choose(torch.tensor([LOGITS]).expand(200, -1), rows))


# What is no distribution


@pytest.mark.parametrize("bad", [[torch.nan, 0.0], [torch.inf, 0.0], [-torch.inf, -torch.inf]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_no_distribution_is_refused(bad: list[float], temperature: float) -> None:
    with pytest.raises(ValueError, match="distribution"):
        choose(torch.tensor([[0.0, 1.0], bad]), [row(temperature=temperature)] * 2)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_banning_everything_is_refused(temperature: float) -> None:
    """The first of nothing but banned tokens is a banned token."""
    each = Row(Sampling(temperature=temperature), seed=0, position=0, banned=(0, 1))
    with pytest.raises(ValueError, match="distribution"):
        choose(torch.zeros(1, 2), [each])


@pytest.mark.parametrize(("number", "token"), [(0.0, 1), (1 - 2**-53, 2)])
def test_the_least_and_the_largest_number_draw_possible_tokens(
    monkeypatch: pytest.MonkeyPatch, number: float, token: int
) -> None:
    monkeypatch.setattr("decoding.sampling.uniform", lambda seed, position: number)
    logits = torch.tensor([[-torch.inf, 0.0, 0.3, -torch.inf]])
    assert choose(logits, [row()]) == [token]


def test_single_impossible_tokens_are_fine() -> None:
    assert set(draws([0.0, -torch.inf, 0.0], 200)) == {0, 2}


# Log-probabilities


def test_log_probabilities_are_those_of_the_plain_softmax() -> None:
    logits = random_logits(3, 131)
    expected = logits.double().log_softmax(-1)
    for i, scored in enumerate(log_probabilities(logits, [0, 7, 130], 4)):
        assert scored.token == [0, 7, 130][i]
        assert scored.logprob == pytest.approx(expected[i, scored.token].item(), abs=1e-5)
        assert [t for t, _ in scored.top] == expected[i].topk(4).indices.tolist()
        assert [v for _, v in scored.top] == pytest.approx(expected[i].topk(4).values.tolist())


def test_all_probabilities_sum_to_one() -> None:
    (scored,) = log_probabilities(random_logits(1, 131), [3], 131)
    assert len(scored.top) == 131
    assert torch.tensor([value for _, value in scored.top]).exp().sum().item() == pytest.approx(1)


@settings(max_examples=50)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40), st.integers(0, 45))
def test_of_equal_tokens_the_lower_id_is_listed_first(values: list[int], top: int) -> None:
    """A greedy choice must be the first alternative, whichever ties the top-k search returns."""
    logits = torch.tensor([values, values[::-1]], dtype=torch.bfloat16)
    for i, scored in enumerate(log_probabilities(logits, [0, 0], top)):
        own = logits[i].tolist()
        by_value_then_id = sorted(range(len(own)), key=lambda token: (-own[token], token))
        assert [token for token, _ in scored.top] == by_value_then_id[:top]


def test_the_greedy_token_is_first_even_where_subtraction_makes_a_tie() -> None:
    """Two logits one bit apart have equal log-probabilities once a large number is taken off."""
    logits = torch.full((1, 1000), 1.0)
    logits[0, 500] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    (scored,) = log_probabilities(logits, choose(logits, [row(temperature=0)]), 2)
    assert scored.token == scored.top[0][0] == 500


def test_top_is_in_descending_order_and_nothing_without_being_asked() -> None:
    with_top, without = (log_probabilities(random_logits(1, 50), [3], top)[0] for top in (9, 0))
    assert all(a >= b for (_, a), (_, b) in pairwise(with_top.top))
    assert without.top == ()
    assert without.logprob == with_top.logprob


def test_no_rows_have_no_log_probabilities() -> None:
    assert log_probabilities(torch.empty(0, 9), [], 3) == []
