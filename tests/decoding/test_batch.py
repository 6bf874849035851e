"""Who computes what: budgets, admission, preemption, without a model."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_engine import VOCABULARY, Decode, asking, guessing, prompt_of

from decoding.batch import Batcher, Turn
from decoding.cache import BlockPool, BlockTable
from decoding.draft import Draft, Strategy, Verdict
from decoding.options import Limits
from decoding.request import Request
from decoding.sequence import Sequence

SIZE = 4


class Batch:
    """A batcher whose turns are computed by a model that always says 5."""

    def __init__(self, *, num_blocks: int = 65, **limits: int | bool) -> None:
        self.pool = BlockPool(num_blocks, SIZE)
        self.batcher = Batcher(self.pool, Limits(**limits))  # type: ignore[arg-type]

    def add(self, request: Request, decode: Decode | None = None, *, index: int = 0) -> Sequence:
        seq = Sequence(request, index, BlockTable(self.pool, ""), VOCABULARY)
        if decode is not None:
            seq.start(decode)
        self.batcher.waiting.append(seq)
        return seq

    def step(self) -> list[Turn]:
        turns = self.batcher.decide()
        for turn in turns:
            seq = turn.seq
            seq.computed += len(turn.tokens)
            if turn.reaches_end:
                seq.extend([5], ())
                seq.tell(Verdict((5,), 0))
            seq.table.publish(seq.tokens, seq.computed)
        self.batcher.remove_finished()
        return turns

    def steps(self) -> Iterator[list[Turn]]:
        while self.batcher.running or self.batcher.waiting:
            yield self.step()


def drafting(*tokens: int) -> Decode:
    return guessing(lambda done: Draft.chain(tokens))


def guesses(*drafts: Draft) -> Decode:
    """One draft after the other, then nothing more."""

    def decode(seq: Sequence) -> Strategy:
        for draft in drafts:
            _ = yield draft

    return decode


def rows(turns: list[Turn]) -> list[tuple[int, int]]:
    """For each turn how many tokens and draft nodes it computes."""
    return [(len(turn.tokens), len(turn.draft.tokens)) for turn in turns]


# The budget


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=6
    ),
    st.integers(1, 50),
    st.integers(1, 4),
    st.integers(13, 40),
)
def test_any_load_is_served_within_the_budget_in_order_of_arrival(
    load: list[tuple[int, int, int]], step_tokens: int, running: int, num_blocks: int
) -> None:
    """Nothing is computed past a limit, nobody starves, and every block comes back."""
    batch = Batch(num_blocks=num_blocks, step_tokens=step_tokens, running=running)
    arrived = [
        batch.add(asking(prompt_of(length, i), max_tokens=most), drafting(*range(guesses)))
        for i, (length, most, guesses) in enumerate(load)
    ]
    started: list[Sequence] = []
    for number, turns in enumerate(batch.steps()):
        assert number < 2000
        assert sum(turn.num_rows for turn in turns) <= step_tokens
        assert len(turns) <= running
        started += [turn.seq for turn in turns if turn.seq not in started]
        for seq in (turn.seq for turn in turns if turn.reaches_end and not turn.seq.num_remaining):
            seq.end("length")
        batch.batcher.remove_finished()
    assert started == arrived
    assert all(seq.is_finished for seq in arrived)
    assert batch.pool.num_free == num_blocks - 1


def test_a_draft_leaves_a_row_for_every_other_sequence() -> None:
    batch = Batch(step_tokens=6)
    for i in range(3):
        batch.add(asking(prompt_of(2, i), max_tokens=20), drafting(*range(8)))
    batch.step()
    assert rows(batch.step()) == [(1, 3), (1, 0), (1, 0)]


def test_decoding_goes_before_a_prompt_that_came_earlier() -> None:
    batch = Batch(step_tokens=8)
    long = batch.add(asking(prompt_of(40), max_tokens=2))
    batch.step()
    short = batch.add(asking(prompt_of(1, 1), max_tokens=5))
    batch.batcher.waiting.remove(short)
    batch.batcher.running.append(short)
    assert [(t.seq, t.num_rows) for t in batch.step()] == [(short, 1), (long, 7)]


def test_a_long_prompt_is_computed_in_chunks() -> None:
    batch = Batch(step_tokens=8)
    batch.add(asking(prompt_of(20), max_tokens=2))
    assert [rows(turns) for turns in batch.steps()] == [[(8, 0)], [(8, 0)], [(4, 0)], [(1, 0)]]


def test_only_the_last_chunk_chooses_a_token() -> None:
    batch = Batch(step_tokens=8)
    batch.add(asking(prompt_of(20), max_tokens=1))
    assert [turns[0].num_choices for turns in batch.steps()] == [0, 0, 1]


def test_what_live_sequences_leave_of_the_budget_goes_to_waiting_ones() -> None:
    batch = Batch(step_tokens=10)
    batch.add(asking(prompt_of(4), max_tokens=9))
    batch.step()
    batch.add(asking(prompt_of(12, 1), max_tokens=9))
    assert rows(batch.step()) == [(1, 0), (9, 0)]


# Drafts


def test_a_draft_is_cut_to_the_budget() -> None:
    batch = Batch(step_tokens=6)
    batch.add(asking(prompt_of(4)), drafting(*range(9)))
    assert rows(batch.step()) == [(4, 2)]


def test_a_draft_is_cut_one_token_before_the_end_of_the_answer() -> None:
    """The token after the last accepted one is emitted too."""
    batch = Batch()
    batch.add(asking(prompt_of(4), max_tokens=3), drafting(*range(9)))
    assert rows(batch.step()) == [(4, 2)]


def test_no_draft_is_asked_for_before_the_end_of_the_prompt() -> None:
    batch = Batch(step_tokens=8)
    batch.add(asking(prompt_of(20)), drafting(1, 2))
    assert [rows(batch.step()) for _ in range(3)] == [[(8, 0)], [(8, 0)], [(4, 2)]]


def test_a_draft_is_given_up_before_others_lose_their_blocks() -> None:
    batch = Batch(num_blocks=3)
    batch.add(asking(prompt_of(3)), guesses(Draft(), Draft.chain(range(4))))
    batch.add(asking(prompt_of(3, 1)))
    batch.step()
    assert rows(batch.step()) == [(1, 0), (1, 0)]
    assert batch.batcher.preemptions == 0


def test_a_draft_that_was_not_verified_is_not_asked_for_again() -> None:
    """The strategy would wait for a verdict that is about another draft."""
    asked: list[int] = []

    def decode(seq: Sequence) -> Strategy:
        while True:
            asked.append(seq.num_answer)
            yield Draft.chain([1])

    batch = Batch()
    seq = batch.add(asking(prompt_of(4)), decode)
    batch.batcher.decide()
    seq.preempt()
    batch.step()
    batch.step()
    assert asked == [0, 1]


def test_a_draft_that_fails_ends_its_own_sequence_only() -> None:
    def decode(seq: Sequence) -> Strategy:
        raise RuntimeError("no idea")
        yield

    batch = Batch()
    bad = batch.add(asking(prompt_of(4)), decode)
    good = batch.add(asking(prompt_of(5)))
    turns = batch.step()
    assert [turn.seq for turn in turns] == [good]
    assert bad.finish_reason == "error"


# The segment of a turn


def test_a_turn_hangs_its_draft_from_the_last_committed_token() -> None:
    batch = Batch()
    seq = batch.add(asking((1, 2, 3)), guesses(Draft((7, 8, 9), (-1, -1, 0))))
    (turn,) = batch.batcher.decide()
    segment = turn.segment()
    assert segment.tokens == [1, 2, 3, 7, 8, 9]
    assert segment.parents == [-1, 0, 1, 2, 2, 3]
    assert segment.logits_from == 2
    assert segment.slots.tolist() == seq.table.slots(6).tolist()


def test_all_logits_are_wanted_while_the_prompt_is_scored() -> None:
    batch = Batch(step_tokens=2)
    batch.add(asking((1, 2, 3), prompt_logprobs=0))
    (turn,) = batch.batcher.decide()
    assert (turn.num_logits, turn.segment().logits_from) == (2, 0)


# Admission


def test_a_sequence_waits_until_all_its_tokens_have_room() -> None:
    batch = Batch(num_blocks=5)
    first = batch.add(asking(prompt_of(9), max_tokens=2))
    second = batch.add(asking(prompt_of(5, 1), max_tokens=2))
    assert [turn.seq for turn in batch.step()] == [first]
    batch.step()
    assert [turn.seq for turn in batch.step()] == [second]


def test_a_small_request_does_not_overtake_a_large_one() -> None:
    """Otherwise the large one might wait forever."""
    batch = Batch(num_blocks=5)
    batch.add(asking(prompt_of(9), max_tokens=2))
    batch.add(asking(prompt_of(12, 1), max_tokens=2))
    batch.add(asking(prompt_of(1, 2), max_tokens=2))
    assert len(batch.step()) == 1


def test_no_more_run_at_once_than_allowed() -> None:
    batch = Batch(running=2)
    for i in range(5):
        batch.add(asking(prompt_of(3, i), max_tokens=2))
    assert [len(turns) for turns in batch.steps()] == [2, 2, 2, 2, 1, 1]


def test_choices_wait_until_the_first_has_computed_the_prompt_they_share() -> None:
    batch = Batch(step_tokens=8)
    request = asking(prompt_of(20), max_tokens=3)
    for index in range(3):
        batch.add(request, index=index)
    steps = [rows(turns) for turns in batch.steps()]
    assert steps[:3] == [[(8, 0)], [(8, 0)], [(4, 0)]]
    assert steps[3] == [(1, 0), (4, 0), (3, 0)]  # 16 of the 20 tokens are shared


def test_a_choice_that_waits_for_its_prompt_holds_up_nobody_else() -> None:
    batch = Batch()
    request = asking(prompt_of(20))
    first, second = (batch.add(request, index=index) for index in range(2))
    other = batch.add(asking(prompt_of(3, 1)))
    assert [turn.seq for turn in batch.step()] == [first, other]
    assert second in [turn.seq for turn in batch.step()]


# Preemption


def preempting() -> tuple[Batch, Sequence, Sequence, Sequence]:
    """Three sequences that fill the cache, one token before the first needs a block."""
    batch = Batch(num_blocks=4)
    first, second, third = (batch.add(asking(prompt_of(4, i), max_tokens=6)) for i in range(3))
    assert len(batch.step()) == 3
    return batch, first, second, third


def test_the_latest_arrival_gives_way() -> None:
    batch, first, second, third = preempting()
    assert [turn.seq for turn in batch.step()] == [first]
    assert batch.batcher.preemptions == 2
    assert (second.computed, third.computed) == (0, 0)


def test_who_gave_way_is_served_again_before_newer_requests() -> None:
    batch, _, second, third = preempting()
    newer = batch.add(asking(prompt_of(1, 9), max_tokens=1))
    batch.step()
    assert list(batch.batcher.waiting) == [second, third, newer]


def test_what_was_preempted_is_computed_again_with_its_answer() -> None:
    batch, _, second, _ = preempting()
    turns = [turn for step in batch.steps() for turn in step if turn.seq is second]
    recomputed = turns[0]
    assert [*recomputed.tokens] == [*second.request.prompt, 5][-len(recomputed.tokens) :]
    assert second.tokens == [*second.request.prompt, *[5] * 6]


def test_alone_a_sequence_never_gives_way_to_its_own_draft() -> None:
    batch = Batch(num_blocks=4)
    batch.add(asking(prompt_of(4), max_tokens=8), drafting(*range(30)))
    preemptions = 0
    for _ in batch.steps():
        preemptions += batch.batcher.preemptions
    assert preemptions == 0


# The prefix cache


def hits(batch: Batch) -> tuple[int, int]:
    batch.step()
    return batch.batcher.prefix_queries, batch.batcher.prefix_hits


def test_the_prefix_cache_counts_what_was_asked_and_found() -> None:
    batch = Batch()
    batch.add(asking(prompt_of(10), max_tokens=9))
    assert hits(batch) == (10, 0)
    batch.add(asking(prompt_of(10), max_tokens=9))
    assert hits(batch) == (10, 8)
    assert hits(batch) == (0, 0)


@pytest.mark.parametrize("scoring", [False, True])
def test_nothing_is_looked_up_if_it_is_switched_off_or_the_prompt_is_scored(scoring: bool) -> None:
    """The prompt's log-probabilities need every row of it."""
    batch = Batch(prefix_cache=scoring)
    for _ in range(2):
        batch.add(asking(prompt_of(10), prompt_logprobs=0 if scoring else None))
        assert hits(batch) == (0, 0)


def test_waiting_for_room_takes_no_blocks() -> None:
    batch = Batch(num_blocks=4)
    batch.add(asking(prompt_of(5), max_tokens=3))
    batch.step()
    waiting = batch.add(asking((*prompt_of(4), *prompt_of(8, 1)), max_tokens=1))
    batch.step()
    assert (waiting.table.num_blocks, waiting.computed) == (0, 0)
