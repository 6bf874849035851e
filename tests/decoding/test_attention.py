"""Planning attention: every row sees its own path and nothing else, in canonical shapes."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from trees import drafts, node_path

from decoding.draft import Draft
from decoding.eager.attention import UnsupportedAttention, attend
from decoding.eager.plan import Call, Plan, Shapes, make_plan
from decoding.segment import Segment

SHAPES = Shapes()
SMALL = Shapes(rows=2, tile=4, keys=8, folded=11)
SLOTS = 400


def segment(start: int, draft: Draft, first_slot: int) -> Segment:
    """A tree after ``start`` cached tokens, in slots that run backwards, unlike positions."""
    length = start + len(draft.tokens)
    slots = np.arange(first_slot, first_slot + length)[::-1]
    return Segment(draft.tokens, draft.parents, start, slots, logits_from=0)


@st.composite
def batches(draw: st.DrawFn) -> list[Segment]:
    """Chunks of prompts and trees, as many as a step may hold."""
    segments, first_slot = [], 16
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, 40))
        chains = st.integers(1, 40).map(lambda length: Draft.chain(range(length)))
        draft = draw(chains | drafts().filter(lambda tree: bool(tree.tokens)))
        segments.append(segment(start, draft, first_slot))
        first_slot += start + len(draft.tokens)
    return segments


def plan_of(segments: list[Segment], shapes: Shapes = SHAPES, groups: int = 1) -> Plan:
    rows = sum(len(s.tokens) for s in segments)
    padded = -(-rows // shapes.rows) * shapes.rows
    return make_plan(segments, torch.zeros(1, SLOTS, 2, 1, 1), shapes, groups, padded)


def visible_slots(segments: list[Segment], window: int | None = None) -> list[list[int]]:
    """For each packed row the slots of its text up to itself, in order: the meaning of a plan."""
    expected = []
    for each in segments:
        tree = Draft(tuple(each.tokens), tuple(each.parents))
        for node in range(len(each.tokens)):
            path = [*range(each.start), *(each.start + n for n in node_path(tree, node))]
            expected.append([int(each.slots[place]) for place in path[-(window or SLOTS) :]])
    return expected


def planned_slots(plan: Plan, groups: int, window: int | None = None) -> list[list[int]]:
    """For each packed row the slots that its place in the calls lets it see."""
    answers = [seen for call in plan.calls for seen in _seen(call, groups, window)]
    places = range(len(answers)) if plan.places is None else plan.places.tolist()
    return [answers[place] for place in places]


def _seen(call: Call, groups: int, window: int | None) -> Iterator[list[int]]:
    tiles, queries, keys = call.shape
    mask = call.mask(window, groups, torch.float32).view(tiles, queries, groups, keys)
    assert torch.equal(mask, mask[:, :, :1].expand_as(mask))
    for tile, slots in enumerate(call.keys.view(tiles, keys)):
        for query in range(queries):
            yield slots[mask[tile, query, 0] == 0].tolist()


def rows_of(call: Call) -> Tensor:
    tiles, queries, _ = call.shape
    rows = torch.arange(tiles * queries) if call.rows is None else call.rows
    return rows.view(tiles, queries)


@settings(max_examples=60)
@given(
    batches(),
    st.sampled_from([SHAPES, SMALL, Shapes(rows=8)]),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([None, 1, 7]),
)
def test_a_row_sees_its_own_path_in_order_and_nothing_else(
    segments: list[Segment], shapes: Shapes, groups: int, window: int | None
) -> None:
    plan = plan_of(segments, shapes, groups)
    expected = visible_slots(segments, window)
    assert planned_slots(plan, groups, window)[: len(expected)] == expected


@settings(max_examples=60)
@given(batches(), st.sampled_from([1, 3, 4]))
def test_the_query_at_a_rows_place_is_its_own(segments: list[Segment], groups: int) -> None:
    plan = plan_of(segments, SMALL, groups)
    queries = torch.cat([rows_of(call).flatten() for call in plan.calls])
    num_rows = sum(len(s.tokens) for s in segments)
    own = queries if plan.places is None else queries[plan.places]
    assert own[:num_rows].tolist() == list(range(num_rows))


@settings(max_examples=60)
@given(batches(), st.sampled_from([SHAPES, SMALL]), st.sampled_from([1, 3, 4, 8]))
def test_shapes_are_canonical(segments: list[Segment], shapes: Shapes, groups: int) -> None:
    for call in plan_of(segments, shapes, groups).calls:
        _, queries, keys = call.shape
        assert queries.bit_count() == 1
        assert queries * groups <= shapes.folded
        assert (queries * groups) % 32 not in shapes.avoided_tails
        assert keys % shapes.keys == 0
        assert keys - shapes.keys <= call.positions.max() < keys
        tiles = call.positions // shapes.tile
        assert torch.equal(tiles, tiles[:, :1].expand_as(tiles))


@settings(max_examples=60)
@given(batches())
def test_the_shape_a_row_is_computed_in_depends_on_its_own_sequence_alone(
    segments: list[Segment],
) -> None:
    """With the company in it, answers would change with the load."""

    def shapes_of_last(together: list[Segment]) -> list[tuple[int, int]]:
        plan = plan_of(together)
        first = sum(len(s.tokens) for s in together[:-1])
        last = set(range(first, first + len(together[-1].tokens)))
        return sorted(
            call.shape[1:]
            for call in plan.calls
            for rows in rows_of(call).tolist()
            if last & set(rows)
        )

    assert shapes_of_last(segments) == shapes_of_last(segments[-1:])


def test_a_tile_ends_where_any_chunking_would_end_it() -> None:
    plan = plan_of([segment(30, Draft.chain(range(40)), 16)])
    positions = [set(call.positions.flatten().tolist()) for call in plan.calls]
    assert positions == [{30, 31}, set(range(32, 64)), set(range(64, 70))]


@pytest.mark.parametrize(("groups", "tile"), [(1, 32), (4, 32), (6, 16), (64, 2), (500, 1)])
def test_many_heads_to_a_key_make_tiles_smaller(groups: int, tile: int) -> None:
    shapes = Shapes(avoided_tails=frozenset())
    plan = plan_of([segment(0, Draft.chain(range(64)), 16)], shapes, groups)
    assert {call.shape[1] for call in plan.calls} == {tile}


def test_tiles_of_equal_shape_are_one_call() -> None:
    """One attention call a sequence would cost more than the attention."""
    segments = [segment(20, Draft.chain([1]), 16 + 21 * i) for i in range(8)]
    (call,) = plan_of(segments).calls
    assert call.shape[0] == 8


def test_each_token_is_written_to_the_slot_of_its_place() -> None:
    branching = Draft((1, 2, 3), (-1, -1, 0))
    first, second = segment(2, branching, 16), segment(0, Draft.chain([1]), 40)
    written = plan_of([first, second]).written
    assert written.tolist() == [*first.slots[2:5], *second.slots[:1]]


def test_rows_that_lie_in_order_are_not_gathered() -> None:
    plan = plan_of([segment(20, Draft.chain([1, 2, 3, 4]), 16)])
    assert plan.places is None
    assert plan.calls[0].rows is None


def test_a_masked_row_still_sees_something() -> None:
    """A query that sees no key is NaN, which spreads through the padding."""
    plan = plan_of([segment(40, Draft.chain(range(5)), 16)], groups=3)
    for call in plan.calls:
        assert (call.mask(2, 3, torch.float32) == 0).any(-1).all()


# Computing


def random_tensor(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_attention(
    query: Tensor, cache: Tensor, slots: list[int], softcap: float | None
) -> Tensor:
    """One row, ``[heads, head size]``, over the keys and values in ``slots``."""
    key, value = cache[slots].repeat_interleave(len(query) // cache.shape[2], 2).unbind(1)
    scores = torch.einsum("hd,khd->hk", query, key) / 3
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return torch.einsum("hk,khd->hd", scores.softmax(-1), value)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
def test_attention_is_that_of_each_row_alone(
    heads: int, kv_heads: int, window: int | None, softcap: float | None
) -> None:
    tree = Draft((1, 2, 3, 4, 5, 6), (-1, 0, 0, 1, 2, -1))
    segments = [segment(33, tree, 16), segment(0, Draft.chain(range(37)), 60)]
    num_rows = 44
    cache = random_tensor(1, SLOTS, 2, kv_heads, 8, seed=1)
    query = random_tensor(1, heads, num_rows, 8, seed=2)
    key, value = random_tensor(2, 1, kv_heads, num_rows, 8, seed=3)
    plan = make_plan(segments, cache, SHAPES, heads // kv_heads, num_rows)
    layer: Any = SimpleNamespace(layer_idx=0)
    attended, _ = attend(
        layer, query, key, value, None,
        plan=plan, scaling=1 / 3, sliding_window=window, softcap=softcap,
    )  # fmt: skip
    for row, slots in enumerate(visible_slots(segments, window)):
        own = torch.stack((key[0, :, row], value[0, :, row]))
        assert torch.equal(cache[0, slots[-1]], own)
        expected = plain_attention(query[0, :, row], cache[0], slots, softcap)
        torch.testing.assert_close(attended[0, row], expected)


def test_padding_rows_write_nothing() -> None:
    """They would write over the last row's slot, or the null block's zeros."""
    cache = torch.zeros(1, SLOTS, 2, 1, 4)
    one = [segment(0, Draft.chain([7]), 16)]
    plan = make_plan(one, cache, SHAPES, 1, 2)
    rows = torch.ones(1, 1, 2, 4)
    layer: Any = SimpleNamespace(layer_idx=0)
    attend(layer, rows, rows, rows, None, plan=plan, scaling=1.0)
    assert cache.sum() == 8
    assert cache[0, 16].sum() == 8


@pytest.mark.parametrize("argument", ["attention_mask", "s_aux", "head_mask"])
def test_an_argument_that_would_change_the_result_is_refused(argument: str) -> None:
    plan = plan_of([segment(0, Draft.chain([7]), 16)])
    rows = torch.ones(1, 1, 2, 1)
    arguments: dict[str, Any] = {"attention_mask": None, argument: torch.ones(1)}
    layer: Any = SimpleNamespace(layer_idx=0)
    with pytest.raises(UnsupportedAttention, match=argument):
        attend(layer, rows, rows, rows, plan=plan, scaling=1.0, **arguments)
