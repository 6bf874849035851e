"""The engine over a tiny model: whatever happens around a request, its answer is the same."""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from tiny_engine import (
    DRAFTERS,
    GREEDY,
    SEEDED,
    VOCABULARY,
    Answer,
    Client,
    Decode,
    MakeEngine,
    answers,
    asking,
    branching,
    endless,
    guessing,
    half_right,
    perfect,
    prompt_of,
    sometimes,
    wrong,
)
from tokenizers import Tokenizer
from tokenizers_in_memory import byte_tokenizer
from transformers import LlamaForCausalLM

from decoding import strategies
from decoding.cost import CostModel
from decoding.draft import Draft, Strategy, Verdict
from decoding.engine import Engine
from decoding.request import Request, Sampling, TokenLogprob
from decoding.segment import Segment
from decoding.sequence import Sequence as Live
from decoding.strategies import OptionError
from decoding.text import TextStream

BOTH = pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
EVERY_DRAFTER = pytest.mark.parametrize("drafter", DRAFTERS.values(), ids=DRAFTERS)


@pytest.fixture(scope="module")
def plain(make_engine: MakeEngine) -> Answer:
    """What plain decoding answers to the usual request."""
    return answers(make_engine(), asking())[0]


def plain_answers(engine: Engine, *requests: Request) -> list[Answer]:
    """What plain decoding answers to each request alone."""
    return [answers(engine, request)[0] for request in requests]


def total_preemptions(client: Client) -> int:
    return sum(report.preemptions for report in client.reports)


# Plain decoding


def test_greedy_answers_are_those_of_generate(plain: Answer, llama: LlamaForCausalLM) -> None:
    prompt = torch.tensor([prompt_of(9)])
    generated = llama.generate(prompt, max_new_tokens=24, do_sample=False)
    assert plain.tokens == tuple(generated[0, 9:].tolist())
    assert plain.finish_reason == "length"


def test_a_step_chooses_one_token(plain: Answer) -> None:
    assert (plain.steps, plain.drafted, plain.accepted) == (24, 0, 0)


def test_a_prompt_and_its_answer_may_fill_the_context(make_engine: MakeEngine) -> None:
    engine = make_engine(num_blocks=4)
    (answer,) = answers(engine, asking(prompt_of(40), max_tokens=8))
    assert engine.context_length == 48
    assert len(answer.tokens) == 8


def test_requests_in_a_batch_are_answered_as_if_alone(engine: Engine) -> None:
    requests = [
        asking(prompt_of(5 + 9 * i, i), sampling=[GREEDY, SEEDED][i % 2], max_tokens=10 + i)
        for i in range(6)
    ]
    assert [a.tokens for a in answers(engine, *requests)] == [
        a.tokens for a in plain_answers(engine, *requests)
    ]


@pytest.mark.parametrize("step_tokens", [1, 7, 32])
def test_the_size_of_prompt_chunks_changes_no_token(
    make_engine: MakeEngine, step_tokens: int
) -> None:
    requests = [asking(prompt_of(70, i), max_tokens=6) for i in range(2)]
    expected = plain_answers(make_engine(), *requests)
    client = Client(make_engine(step_tokens=step_tokens))
    for request in requests:
        client.ask(request)
    client.finish()
    assert [client.answer(r).tokens for r in requests] == [a.tokens for a in expected]
    assert max(report.rows for report in client.reports) <= step_tokens


# Drafts


@BOTH
@EVERY_DRAFTER
def test_no_draft_changes_a_token(
    engine: Engine, drafter: Callable[[Sequence[int]], Decode], sampling: Sampling
) -> None:
    request = asking(sampling=sampling, max_tokens=30)
    (expected,) = answers(engine, request)
    (drafted,) = answers(engine, request, decode=drafter(expected.tokens))
    assert drafted.tokens == expected.tokens
    assert len(drafted.tokens) == drafted.steps + drafted.accepted
    assert sum(drafted.accepted_runs) == drafted.accepted <= drafted.drafted


@EVERY_DRAFTER
def test_no_draft_changes_a_penalised_answer(
    engine: Engine, drafter: Callable[[Sequence[int]], Decode]
) -> None:
    """A penalty depends on the path to a token, the drafted part included."""
    sampling = Sampling(temperature=0.8, seed=3, frequency_penalty=1.5, repetition_penalty=1.2)
    request = asking(sampling=sampling, max_tokens=30, stopping={"min_tokens": 12})
    (expected,) = answers(engine, request)
    (drafted,) = answers(engine, request, decode=drafter(expected.tokens))
    assert drafted.tokens == expected.tokens


def test_drafting_differently_side_by_side_changes_no_token(engine: Engine) -> None:
    requests = [asking(prompt_of(8 + i, i), sampling=SEEDED) for i in range(5)]
    expected = plain_answers(engine, *requests)
    client = Client(engine)
    drafters = (perfect, wrong, half_right, branching, sometimes)
    for drafter, request, alone in zip(drafters, requests, expected, strict=True):
        client.ask(request, drafter(alone.tokens))
    client.finish()
    assert [client.answer(r).tokens for r in requests] == [a.tokens for a in expected]


def test_a_perfect_draft_saves_a_step_for_every_guess(engine: Engine, plain: Answer) -> None:
    (drafted,) = answers(engine, asking(), decode=perfect(plain.tokens, ahead=4))
    assert (drafted.steps, drafted.drafted, drafted.accepted) == (5, 19, 19)
    assert drafted.accepted_runs == (4, 4, 4, 4, 3)


def test_a_wrong_draft_costs_no_token_and_saves_no_step(engine: Engine, plain: Answer) -> None:
    (drafted,) = answers(engine, asking(), decode=wrong(plain.tokens))
    assert (drafted.steps, drafted.accepted) == (24, 0)


def test_the_right_branch_of_a_tree_is_followed(engine: Engine, plain: Answer) -> None:
    (drafted,) = answers(engine, asking(), decode=branching(plain.tokens))
    assert (drafted.steps, drafted.accepted) == (5, 19)


def test_accepted_branches_are_read_again_from_their_new_place(
    engine: Engine, plain: Answer
) -> None:
    """Left where they were drafted, they would be read as the wrong branch by all later tokens."""
    longer = asking(max_tokens=60)
    (expected,) = answers(engine, longer)
    (drafted,) = answers(engine, longer, decode=branching(expected.tokens))
    again = asking((*prompt_of(9), *expected.tokens), max_tokens=5)
    (cached,) = answers(engine, again)
    (computed,) = answers(engine, asking(again.prompt, max_tokens=5, cache_salt="other"))
    assert drafted.tokens == expected.tokens
    assert cached.cached_tokens == 64
    assert cached.tokens == computed.tokens


def test_the_strategy_is_told_what_became_of_its_drafts(engine: Engine, plain: Answer) -> None:
    verdicts: list[Verdict] = []

    def decode(seq: Live) -> Strategy:
        strategy = half_right(plain.tokens)(seq)
        draft = next(strategy)
        while True:
            verdicts.append((yield draft))
            draft = strategy.send(verdicts[-1])

    (answer,) = answers(engine, asking(), decode=decode)
    told = [token for verdict in verdicts for token in verdict.tokens]
    assert tuple(told) == plain.tokens[: len(told)]
    assert len(told) > 18
    assert sum(verdict.accepted for verdict in verdicts) <= answer.accepted
    for verdict in verdicts:
        assert len(verdict.choices) == 1 + len(verdict.verified.tokens)
        assert verdict.tokens[: verdict.accepted] == verdict.verified.tokens[: verdict.accepted]


def test_a_strategy_that_has_nothing_more_to_say_leaves_plain_decoding(
    engine: Engine, plain: Answer
) -> None:
    def decode(seq: Live) -> Strategy:
        yield Draft.chain(plain.tokens[:2])

    (answer,) = answers(engine, asking(), decode=decode)
    assert (answer.tokens, answer.steps) == (plain.tokens, 22)


def test_a_strategy_is_closed_when_its_answer_is_complete(engine: Engine) -> None:
    closed: list[int] = []

    def decode(seq: Live) -> Strategy:
        try:
            while True:
                yield Draft()
        finally:
            closed.append(seq.num_answer)

    answers(engine, asking(max_tokens=3), decode=decode)
    assert closed == [3]


# Where an answer ends

BY_DRAFTER = pytest.mark.parametrize(
    "drafter", [wrong, perfect, branching, endless], ids=lambda drafter: drafter.__name__
)


@BY_DRAFTER
def test_an_end_of_sequence_ends_the_answer_inside_an_accepted_run(
    make_engine: MakeEngine, plain: Answer, drafter: Callable[[Sequence[int]], Decode]
) -> None:
    engine = make_engine(eos=(plain.tokens[6], 1))
    (answer,) = answers(engine, asking(logprobs=0), decode=drafter(plain.tokens))
    assert answer.tokens == plain.tokens[:7]
    assert answer.finish_reason == "stop"
    assert [scored.token for scored in answer.logprobs] == list(plain.tokens[:6])


@BY_DRAFTER
def test_a_stop_token_ends_the_answer_inside_an_accepted_run(
    engine: Engine, plain: Answer, drafter: Callable[[Sequence[int]], Decode]
) -> None:
    request = asking(stopping={"stop_token_ids": (plain.tokens[5],)})
    (answer,) = answers(engine, request, decode=drafter(plain.tokens))
    assert (answer.tokens, answer.finish_reason) == (plain.tokens[:6], "stop")


@BY_DRAFTER
def test_max_tokens_ends_the_answer_inside_an_accepted_run(
    engine: Engine, plain: Answer, drafter: Callable[[Sequence[int]], Decode]
) -> None:
    request = asking(max_tokens=7)
    (answer,) = answers(engine, request, decode=drafter(plain.tokens))
    assert (answer.tokens, answer.finish_reason) == (plain.tokens[:7], "length")


@BY_DRAFTER
def test_a_stop_string_ends_the_answer_inside_an_accepted_run(
    make_engine: MakeEngine, plain: Answer, drafter: Callable[[Sequence[int]], Decode]
) -> None:
    engine = make_engine(tokenizer=byte_tokenizer())
    text = bytes(plain.tokens[:5]).decode()
    request = asking(stopping={"stop": (text[3:5],)})
    (answer,) = answers(engine, request, decode=drafter(plain.tokens))
    assert (answer.tokens, answer.text) == (plain.tokens[:5], text[:3])
    assert answer.finish_reason == "stop"


def test_a_chosen_end_on_the_last_allowed_token_is_a_stop(
    make_engine: MakeEngine, plain: Answer
) -> None:
    engine = make_engine(eos=(plain.tokens[6],))
    (answer,) = answers(engine, asking(max_tokens=7))
    assert answer.finish_reason == "stop"


def test_tokens_past_a_cut_are_counted_nowhere(make_engine: MakeEngine, plain: Answer) -> None:
    """The draft went on after the end; its tokens were right, but are no part of the answer."""
    engine = make_engine(eos=(plain.tokens[6],))
    (answer,) = answers(engine, asking(), decode=perfect(plain.tokens, ahead=20))
    assert (len(answer.tokens), answer.steps, answer.accepted) == (7, 1, 7)


def test_ends_of_sequence_can_be_ignored(make_engine: MakeEngine, plain: Answer) -> None:
    engine = make_engine(eos=(plain.tokens[2],))
    (answer,) = answers(engine, asking(stopping={"ignore_eos": True}))
    assert answer.tokens == plain.tokens


def test_no_end_is_chosen_before_min_tokens(make_engine: MakeEngine, plain: Answer) -> None:
    eos, stop = plain.tokens[2], plain.tokens[4]
    request = asking(stopping={"min_tokens": 9, "stop_token_ids": (stop,)})
    (answer,) = answers(make_engine(eos=(eos,)), request)
    assert not {eos, stop} & set(answer.tokens[:9])
    assert len(answer.tokens) > 9


@pytest.mark.parametrize("min_tokens", [0, 1, 2])
def test_an_end_may_follow_min_tokens_at_once(
    make_engine: MakeEngine, plain: Answer, min_tokens: int
) -> None:
    engine = make_engine(eos=(plain.tokens[2],))
    (answer,) = answers(engine, asking(stopping={"min_tokens": min_tokens}))
    assert answer.tokens == plain.tokens[:3]


def test_a_stop_string_does_not_end_an_answer_that_is_too_short(
    make_engine: MakeEngine, plain: Answer
) -> None:
    engine = make_engine(tokenizer=byte_tokenizer())
    stop = chr(plain.tokens[1])
    (answer,) = answers(engine, asking(stopping={"stop": (stop,), "min_tokens": 6}))
    assert len(answer.tokens) > 6
    assert stop in answer.text


@pytest.mark.parametrize(("min_tokens", "length"), [(2, 3), (3, 24)])
def test_a_stop_string_must_end_after_min_tokens(
    make_engine: MakeEngine, plain: Answer, min_tokens: int, length: int
) -> None:
    """An end-of-sequence counts as a token after them, and so does the end of a stop string."""
    engine = make_engine(tokenizer=byte_tokenizer())
    stop = bytes(plain.tokens[1:3]).decode()
    (answer,) = answers(engine, asking(stopping={"stop": (stop,), "min_tokens": min_tokens}))
    assert len(answer.tokens) == length


@pytest.mark.parametrize("prompt_logprobs", [None, 2])
def test_no_answer_can_be_asked_for(engine: Engine, prompt_logprobs: int | None) -> None:
    request = asking(max_tokens=0, prompt_logprobs=prompt_logprobs, logprobs=1)
    (answer,) = answers(engine, request)
    assert (answer.tokens, answer.text, answer.logprobs) == ((), "", ())
    assert (answer.finish_reason, answer.steps) == ("length", 0)
    assert (answer.prompt_logprobs is None) == (prompt_logprobs is None)


# Text


def test_text_is_that_of_the_tokens(make_engine: MakeEngine) -> None:
    """Random tokens are often no characters at all."""
    tokenizer = byte_tokenizer()
    engine = make_engine(tokenizer=tokenizer)
    for seed in range(3):
        (answer,) = answers(engine, asking(prompt_of(9, seed), sampling=SEEDED, max_tokens=40))
        assert answer.text == tokenizer.decode(list(answer.tokens))


def test_an_end_of_sequence_is_no_text(make_engine: MakeEngine, plain: Answer) -> None:
    engine = make_engine(eos=(plain.tokens[3],), tokenizer=byte_tokenizer())
    (answer,) = answers(engine, asking())
    assert answer.text == bytes(plain.tokens[:3]).decode()


def test_a_start_of_a_stop_string_is_shown_when_the_answer_ends(
    make_engine: MakeEngine, plain: Answer
) -> None:
    engine = make_engine(tokenizer=byte_tokenizer())
    text = bytes(plain.tokens[:4]).decode()
    (answer,) = answers(engine, asking(max_tokens=4, stopping={"stop": (text[2:] + "?",)}))
    assert (answer.text, answer.finish_reason) == (text, "length")


# Log-probabilities


def model_logprobs(llama: LlamaForCausalLM, tokens: Sequence[int]) -> torch.Tensor:
    """Of all tokens after each prefix, by the model as it is."""
    with torch.inference_mode():
        logits: torch.Tensor = llama(torch.tensor([tokens])).logits[0]
    return logits.double().log_softmax(-1)


def assert_scored(
    scored: Sequence[TokenLogprob], tokens: Sequence[int], expected: torch.Tensor
) -> None:
    """``expected`` holds a row of log-probabilities for each of ``tokens``."""
    assert [each.token for each in scored] == list(tokens)
    for each, row in zip(scored, expected, strict=True):
        assert each.logprob == pytest.approx(row[each.token].item(), abs=1e-3)
        best = row.topk(len(each.top))
        assert [value for _, value in each.top] == pytest.approx(best.values.tolist(), abs=1e-3)
        assert [token for token, _ in each.top] == best.indices.tolist()


@BOTH
@EVERY_DRAFTER
def test_log_probabilities_are_the_models_own(
    engine: Engine,
    llama: LlamaForCausalLM,
    drafter: Callable[[Sequence[int]], Decode],
    sampling: Sampling,
) -> None:
    """Temperature and filters do not touch them, and a draft's rows are the right ones."""
    request = asking(sampling=sampling, logprobs=3)
    (alone,) = answers(engine, request)
    (answer,) = answers(engine, request, decode=drafter(alone.tokens))
    expected = model_logprobs(llama, (*request.prompt, *alone.tokens))[8:-1]
    assert_scored(answer.logprobs, alone.tokens, expected)


def test_the_greedy_token_is_the_first_alternative(engine: Engine) -> None:
    (answer,) = answers(engine, asking(logprobs=1))
    assert all(each.top[0] == (each.token, each.logprob) for each in answer.logprobs)


@pytest.mark.parametrize("step_tokens", [512, 39, 16, 1])
def test_the_prompt_is_scored_whatever_its_chunks(
    make_engine: MakeEngine, llama: LlamaForCausalLM, step_tokens: int
) -> None:
    engine = make_engine(step_tokens=step_tokens)
    request = asking(prompt_of(40), max_tokens=3, prompt_logprobs=2)
    (answer,) = answers(engine, request)
    assert answer.prompt_logprobs is not None
    expected = model_logprobs(llama, request.prompt)[:-1]
    assert_scored(answer.prompt_logprobs, request.prompt[1:], expected)


def test_a_cached_prompt_is_scored_whole(engine: Engine) -> None:
    request = asking(prompt_of(40), max_tokens=2, prompt_logprobs=0)
    first, second = plain_answers(engine, request, request)
    assert first.prompt_logprobs == second.prompt_logprobs
    assert second.cached_tokens == 0


def test_a_prompt_of_one_token_has_no_log_probabilities(engine: Engine) -> None:
    (answer,) = answers(engine, asking([5], max_tokens=2, prompt_logprobs=3))
    assert answer.prompt_logprobs == ()


@pytest.mark.parametrize("drafter", [wrong, perfect, endless])
def test_drafts_do_not_disturb_the_scores_of_a_prompt(
    engine: Engine, plain: Answer, drafter: Callable[[Sequence[int]], Decode]
) -> None:
    request = asking(prompt_logprobs=1, logprobs=1)
    (expected,) = answers(engine, request)
    (answer,) = answers(engine, request, decode=drafter(plain.tokens))
    assert expected.prompt_logprobs is not None
    assert answer.prompt_logprobs is not None
    tokens = [each.token for each in answer.prompt_logprobs]
    assert tokens == [each.token for each in expected.prompt_logprobs] == list(prompt_of(9)[1:])


# The prefix cache


def test_a_second_identical_prompt_finds_its_blocks(engine: Engine) -> None:
    request = asking(prompt_of(40))
    first, second = plain_answers(engine, request, request)
    assert (first.cached_tokens, second.cached_tokens) == (0, 32)
    assert second.tokens == first.tokens


def test_the_next_turn_of_a_conversation_finds_the_last_answer(engine: Engine) -> None:
    (first,) = answers(engine, asking(prompt_of(20), max_tokens=30))
    (second,) = answers(engine, asking((*prompt_of(20), *first.tokens, 1, 2), max_tokens=2))
    assert second.cached_tokens == 48


def test_tenants_do_not_share_blocks(engine: Engine) -> None:
    ours, theirs = (asking(prompt_of(40), cache_salt=salt) for salt in ("ours", "theirs"))
    assert [a.cached_tokens for a in plain_answers(engine, ours, theirs, ours)] == [0, 0, 32]


def test_the_prefix_cache_can_be_switched_off(make_engine: MakeEngine) -> None:
    engine = make_engine(prefix_cache=False)
    request = asking(prompt_of(40))
    assert [a.cached_tokens for a in plain_answers(engine, request, request)] == [0, 0]


# Several choices


def choices(engine: Engine, request: Request, decode: Decode | None = None) -> list[Answer]:
    client = Client(engine)
    client.ask(request, decode)
    client.finish()
    return [client.answer(request, index) for index in range(request.n)]


def test_greedy_choices_are_equal(engine: Engine) -> None:
    first, *others = choices(engine, asking(n=3))
    assert all(other.tokens == first.tokens for other in others)


def test_sampled_choices_differ_and_repeat(engine: Engine) -> None:
    request = asking(n=4, sampling=SEEDED)
    said = [answer.tokens for answer in choices(engine, request)]
    assert len(set(said)) == 4
    assert [answer.tokens for answer in choices(engine, request)] == said


def test_the_first_choice_is_the_answer_of_a_request_for_one(engine: Engine) -> None:
    several = choices(engine, asking(n=3, sampling=SEEDED))
    (single,) = choices(engine, asking(sampling=SEEDED))
    assert several[0].tokens == single.tokens


def test_choices_share_the_blocks_of_the_prompt(engine: Engine) -> None:
    request = asking(prompt_of(40), n=4, sampling=SEEDED)
    assert [answer.cached_tokens for answer in choices(engine, request)] == [0, 32, 32, 32]


def test_every_choice_scores_the_prompt_by_itself(engine: Engine) -> None:
    request = asking(prompt_of(20), n=2, prompt_logprobs=0, max_tokens=2)
    first, second = choices(engine, request)
    assert first.prompt_logprobs == second.prompt_logprobs
    assert first.prompt_logprobs


# Preemption


def crowd(**fields: Any) -> list[Request]:
    """Three requests of five blocks each."""
    return [
        asking(prompt_of(40, i), max_tokens=36, sampling=[SEEDED, GREEDY][i % 2], **fields)
        for i in range(3)
    ]


def asked_at_once(engine: Engine, requests: list[Request]) -> Client:
    """The answers of an engine too small for all of them."""
    client = Client(engine)
    for request in requests:
        client.ask(request)
    client.finish()
    assert total_preemptions(client) > 0
    return client


@pytest.mark.parametrize("step_tokens", [512, 24])
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_preemption_changes_no_token(
    make_engine: MakeEngine, step_tokens: int, prefix_cache: bool
) -> None:
    requests = crowd()
    small = make_engine(num_blocks=12, step_tokens=step_tokens, prefix_cache=prefix_cache)
    client = asked_at_once(small, requests)
    expected = plain_answers(make_engine(), *requests)
    assert [client.answer(r).tokens for r in requests] == [a.tokens for a in expected]


def test_preemption_changes_no_log_probability(
    make_engine: MakeEngine, llama: LlamaForCausalLM
) -> None:
    requests = crowd(logprobs=2, prompt_logprobs=1)
    client = asked_at_once(make_engine(num_blocks=10, step_tokens=24), requests)
    for request in requests:
        answer = client.answer(request)
        expected = model_logprobs(llama, (*request.prompt, *answer.tokens))
        assert answer.prompt_logprobs is not None
        assert_scored(answer.prompt_logprobs, request.prompt[1:], expected[:39])
        assert_scored(answer.logprobs, answer.tokens, expected[39:-1])


def test_a_prompt_is_scored_once_if_it_was_preempted_half_way(
    make_engine: MakeEngine, llama: LlamaForCausalLM
) -> None:
    growing = asking(prompt_of(15), max_tokens=30)
    scored = asking(prompt_of(60, 1), max_tokens=2, prompt_logprobs=1)
    client = asked_at_once(make_engine(num_blocks=6, step_tokens=16), [growing, scored])
    answer = client.answer(scored)
    assert answer.prompt_logprobs is not None
    expected = model_logprobs(llama, scored.prompt)[:-1]
    assert_scored(answer.prompt_logprobs, scored.prompt[1:], expected)


def test_preemption_under_drafts_changes_no_token(make_engine: MakeEngine) -> None:
    requests = crowd()
    expected = plain_answers(make_engine(), *requests)
    client = Client(make_engine(num_blocks=12))
    for request, alone in zip(requests, expected, strict=True):
        client.ask(request, branching(alone.tokens))
    client.finish()
    assert total_preemptions(client) > 0
    assert [client.answer(r).tokens for r in requests] == [a.tokens for a in expected]


# Abort


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 6, 9, 14])
def test_an_abort_changes_no_other_answer(make_engine: MakeEngine, after: int) -> None:
    """Before it started, in the middle of its prompt, and while it drafts."""
    first, victim, last = requests = [
        asking(prompt_of(50, i), sampling=SEEDED, n=1 + i % 2, max_tokens=32) for i in range(3)
    ]
    expected = plain_answers(make_engine(), *requests)
    client = Client(make_engine(step_tokens=40))
    for request, alone in zip(requests, expected, strict=True):
        client.ask(request, sometimes(alone.tokens))
    for _ in range(after):
        client.step()
    client.engine.abort(victim.id)
    before = len(client.answer(victim).tokens)
    client.finish()
    assert len(client.answer(victim).tokens) == before
    assert client.answer(victim).finish_reason is None
    for index, request in ((0, first), (2, last)):
        assert client.answer(request).tokens == expected[index].tokens


def test_a_thousand_aborts_leave_every_block_free(make_engine: MakeEngine) -> None:
    """At random steps, among others that go on, by all strategies; ``finish`` counts the blocks."""
    chance = random.Random(0)
    lossless = [name for name in strategies.names() if strategies.is_lossless(name)]
    client = Client(make_engine(num_blocks=16, step_tokens=48))
    live: list[Request] = []
    for number in range(1000):
        while len(live) < 5:
            prompt = prompt_of(chance.randrange(1, 60), number % 5)
            fields = {"strategy": chance.choice(lossless), "n": chance.randrange(1, 3)}
            live.append(client.ask(asking(prompt, max_tokens=100, **fields)))
        for _ in range(chance.randrange(3)):
            client.step()
        client.engine.abort(live.pop(chance.randrange(5)).id)
    client.finish()
    assert total_preemptions(client) > 0


def test_an_unknown_request_can_be_aborted(engine: Engine) -> None:
    engine.abort("nobody")
    assert not engine.has_work


def test_a_strategy_is_closed_by_an_abort(engine: Engine) -> None:
    closed: list[bool] = []

    def decode(seq: Live) -> Strategy:
        try:
            yield from guessing(lambda done: Draft())(seq)
        finally:
            closed.append(True)

    client = Client(engine)
    request = client.ask(asking(), decode)
    client.step()
    engine.abort(request.id)
    assert closed == [True]
    assert not engine.has_work


# Errors


def failing(after: int) -> Decode:
    def decode(seq: Live) -> Strategy:
        for _ in range(after):
            yield Draft.chain([1, 2])
        raise RuntimeError("boom")

    return decode


def failing_at_close(seq: Live) -> Strategy:
    try:
        while True:
            yield Draft()
    finally:
        raise RuntimeError("boom")


def saying(draft: Any) -> Decode:
    def decode(seq: Live) -> Strategy:
        yield Draft()
        while True:
            yield draft

    return decode


def assert_fails_alone(engine: Engine, victim: Request, decode: Decode | None = None) -> Answer:
    """The victim ends with an error; its neighbours and the next request see nothing of it."""
    first, last = neighbours = [asking(prompt_of(30, i), sampling=SEEDED) for i in (1, 2)]
    expected = plain_answers(engine, *neighbours)
    client = Client(engine)
    client.ask(first)
    client.ask(victim, decode)
    client.ask(last)
    client.finish()
    after = plain_answers(engine, *neighbours)
    assert [client.answer(r).tokens for r in neighbours] == [a.tokens for a in expected]
    assert [a.tokens for a in after] == [a.tokens for a in expected]
    answer = client.answer(victim)
    assert answer.finish_reason == "error"
    return answer


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_strategy_that_raises_ends_its_request_alone(engine: Engine, after: int) -> None:
    answer = assert_fails_alone(engine, asking(), failing(after))
    assert answer.error == "RuntimeError: boom"
    assert len(answer.tokens) >= after


@pytest.mark.parametrize("max_tokens", [1, 4])
def test_a_strategy_that_raises_when_closed_ends_its_request_alone(
    engine: Engine, max_tokens: int
) -> None:
    answer = assert_fails_alone(engine, asking(max_tokens=max_tokens), failing_at_close)
    assert answer.error == "RuntimeError: boom"
    assert len(answer.tokens) == max_tokens


@pytest.mark.parametrize("token", [VOCABULARY, -1, 2**70])
def test_a_draft_with_a_token_outside_the_vocabulary_ends_its_request_alone(
    engine: Engine, token: int
) -> None:
    """It has no embedding: the forward would fail, and every request in it."""
    answer = assert_fails_alone(engine, asking(), saying(Draft((1, token), (-1, -1))))
    assert answer.error == f"ValueError: token ids must be in 0..{VOCABULARY - 1}"


@pytest.mark.parametrize("draft", [None, 7, Draft(("a",), (-1,))])  # type: ignore[arg-type]
def test_a_draft_that_is_none_ends_its_request_alone(engine: Engine, draft: object) -> None:
    assert_fails_alone(engine, asking(), saying(draft))


def poison(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, prompt: tuple[int, ...], length: int
) -> None:
    """Make logits NaN for the sequence that starts with ``prompt``, from ``length`` tokens on."""
    forward = engine.runner.forward
    first_slots: set[int] = set()

    def poisoned(segments: Sequence[Segment]) -> torch.Tensor:
        logits = forward(segments).clone()
        rows = logits.split([len(s.tokens) - s.logits_from for s in segments])
        for segment, own in zip(segments, rows, strict=True):
            if segment.start == 0 and tuple(segment.tokens[: len(prompt)]) == prompt:
                first_slots.add(int(segment.slots[0]))
            if segment.slots[0] in first_slots and len(segment.slots) >= length:
                own.fill_(torch.nan)
        return logits

    monkeypatch.setattr(engine.runner, "forward", poisoned)


@pytest.mark.parametrize("after", [0, 1, 6])
@pytest.mark.parametrize("sampling", [GREEDY, SEEDED])
def test_logits_that_are_not_finite_end_their_request_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, after: int, sampling: Sampling
) -> None:
    victim = asking(prompt_of(9, 5), sampling=sampling)
    poison(engine, monkeypatch, victim.prompt, 9 + after)
    answer = assert_fails_alone(engine, victim)
    assert answer.error is not None
    assert answer.error.startswith("ValueError")
    assert len(answer.tokens) == after


def test_a_sampling_that_makes_no_distribution_ends_its_request_alone(engine: Engine) -> None:
    sampling = Sampling(logit_bias={3: float("inf")})
    assert_fails_alone(engine, asking(sampling=sampling))


@pytest.mark.parametrize("method", ["push", "flush", "take"])
def test_text_that_fails_ends_its_request_alone(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    class Failing(TextStream):
        def __init__(
            self,
            tokenizer: Tokenizer,
            prompt: Sequence[int],
            stop: Sequence[str] = (),
            sentences: int = 0,
        ) -> None:
            super().__init__(tokenizer, prompt, stop, sentences)
            if "boom" in stop:
                setattr(self, method, fail)

    monkeypatch.setattr("decoding.engine.TextStream", Failing)
    engine = make_engine(tokenizer=byte_tokenizer())
    answer = assert_fails_alone(engine, asking(stopping={"stop": ("boom",)}))
    assert answer.error == "RuntimeError: boom"


@pytest.mark.parametrize("error", [ZeroDivisionError("none"), MemoryError("no room")])
def test_a_forward_that_raises_ends_the_requests_in_it_and_no_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(segments: Sequence[Segment]) -> torch.Tensor:
        raise error

    client = Client(engine)
    requests = [client.ask(asking(prompt_of(20, i), n=2)) for i in range(2)]
    client.step()
    with monkeypatch.context() as broken:
        broken.setattr(engine.runner, "forward", fail)
        client.step()
    later = client.ask(asking())
    client.finish()
    assert [client.answer(r).finish_reason for r in requests] == ["error", "error"]
    assert client.answer(requests[0]).error == f"{type(error).__name__}: {error}"
    assert client.answer(later).tokens == answers(engine, asking())[0].tokens


def test_a_forward_is_announced_with_what_it_is_expected_to_take(make_engine: MakeEngine) -> None:
    engine = make_engine(cost=CostModel([0.1 * (place + 1) for place in range(12)], 0.0, 0.0))
    announced: list[float] = []
    engine.before_forward = announced.append
    answers(engine, asking(prompt_of(4), max_tokens=2))
    assert announced[0] == pytest.approx(0.3)
    assert len(announced) == 2


# Refusals


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (asking(()), "the prompt is empty"),
        (asking(prompt_of(200), max_tokens=57), "257 tokens, the context holds 256"),
        (asking([1, VOCABULARY]), f"must be in 0..{VOCABULARY - 1}"),
        (asking([-1]), "token ids"),
        (asking(sampling=Sampling(logit_bias={VOCABULARY: 1.0})), "token ids"),
        (asking(stopping={"stop_token_ids": (VOCABULARY,), "min_tokens": 3}), "token ids"),
    ],
)
def test_what_can_never_be_served_is_refused(
    engine: Engine, request_: Request, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        engine.add(request_)
    assert not engine.has_work


@pytest.mark.parametrize("fields", [{"strategy": "psychic"}, {"options": {"depth": 3}}])
def test_an_unknown_strategy_or_option_is_refused(engine: Engine, fields: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        engine.add(asking(**fields))
    assert not engine.has_work


def test_a_strategy_that_cannot_start_is_refused_with_all_choices(engine: Engine) -> None:
    """Half of the choices would be answered, and the request taken for refused."""

    def decode(seq: Live) -> Strategy:
        if seq.index == 1:
            raise RuntimeError("boom")
        return guessing(lambda done: Draft())(seq)

    with pytest.raises(RuntimeError):
        engine.add(asking(n=2), decode)
    assert not engine.has_work


# Reports


def test_a_report_counts_what_the_step_did(engine: Engine, plain: Answer) -> None:
    client = Client(engine)
    client.ask(asking(max_tokens=7), perfect(plain.tokens, ahead=2))
    client.finish()
    assert [r.rows for r in client.reports] == [9 + 2, 1 + 2, 1]
    assert [r.sequences for r in client.reports] == [1, 1, 1]
    assert [r.running for r in client.reports] == [1, 1, 0]
    assert all(r.seconds > 0 for r in client.reports)


def test_a_report_says_who_waits(make_engine: MakeEngine) -> None:
    client = Client(make_engine(running=2))
    for i in range(5):
        client.ask(asking(prompt_of(4, i), max_tokens=2))
    client.finish()
    counts = [(r.running, r.waiting) for r in client.reports]
    assert counts == [(2, 3), (0, 3), (2, 1), (0, 1), (1, 0), (0, 0)]


def test_cache_usage_is_the_share_of_live_blocks(make_engine: MakeEngine) -> None:
    client = Client(make_engine(num_blocks=11))
    client.ask(asking(prompt_of(40), max_tokens=2))
    client.finish()
    assert [r.cache_usage for r in client.reports] == pytest.approx([0.3, 0])


def test_a_report_counts_hits_of_the_prefix_cache(engine: Engine) -> None:
    client = Client(engine)
    for _ in range(2):
        client.ask(asking(prompt_of(40), max_tokens=1))
        client.finish()
    assert [(r.prefix_queries, r.prefix_hits) for r in client.reports] == [(40, 0), (40, 32)]


def test_a_step_without_work_reports_nothing(engine: Engine) -> None:
    report = engine.step()
    assert (report.outputs, report.rows, report.sequences) == ([], 0, 0)


def test_the_time_in_the_queue_is_reported_once(make_engine: MakeEngine) -> None:
    client = Client(make_engine(running=1))
    requests = [client.ask(asking(prompt_of(4, i), max_tokens=3)) for i in range(3)]
    client.finish()
    waited = [client.answer(request).queue_seconds for request in requests]
    assert all(a is not None and b is not None and a < b for a, b in pairwise(waited))


def test_a_tenant_with_many_requests_does_not_keep_another_waiting(
    make_engine: MakeEngine,
) -> None:
    client = Client(make_engine(running=2))
    greedy = [client.ask(asking(prompt_of(5, i), tenant="greedy")) for i in range(8)]
    client.step()
    modest = client.ask(asking(prompt_of(5, 99), tenant="modest"))
    client.finish()
    ends = [
        output.request_id
        for report in client.reports
        for output in report.outputs
        if output.finish_reason
    ]
    assert ends.index(modest.id) <= 3
    assert len(ends) == len(greedy) + 1
