"""Draft trees: what the engine does to them before it verifies them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import drafts, token_path, token_paths

from decoding.draft import Draft


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 tokens but 1 parents"):
        Draft((1, 2), (-1,))


@pytest.mark.parametrize("parents", [(0,), (-2,), (-1, 1), (-1, 2, 0)])
def test_a_parent_must_come_before_its_child(parents: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a parent must come before its child"):
        Draft((7,) * len(parents), parents)


@given(st.lists(st.integers(0, 9), max_size=8))
def test_a_chain_is_one_path(tokens: list[int]) -> None:
    draft = Draft.chain(tokens)
    assert draft.tokens == tuple(tokens)
    assert token_path(draft, len(tokens) - 1) == tuple(tokens)


@given(drafts())
def test_merging_keeps_every_path_once(draft: Draft) -> None:
    assert sorted(token_paths(draft.merged())) == sorted(set(token_paths(draft)))


@given(drafts())
def test_merged_siblings_differ(draft: Draft) -> None:
    merged = draft.merged()
    siblings = list(zip(merged.parents, merged.tokens, strict=True))
    assert len(siblings) == len(set(siblings))


@given(drafts())
def test_merging_a_trie_changes_nothing(draft: Draft) -> None:
    merged = draft.merged()
    assert merged.merged() == merged


@given(drafts(), st.integers(-1, 6), st.integers(0, 13))
def test_clipping_keeps_the_first_nodes_that_are_not_too_deep(
    draft: Draft, depth: int, nodes: int
) -> None:
    """A node kept without its parent would hang from another one and guess a path never meant."""
    shallow = [path for path in token_paths(draft) if len(path) <= depth]
    assert list(token_paths(draft.clipped(depth, nodes))) == shallow[:nodes]
