"""The acceptance rule against a search of every path."""

from hypothesis import given
from hypothesis import strategies as st
from trees import Path, drafts, node_path, token_paths

from decoding.draft import Draft
from decoding.verify import accepted_path

TOKENS = st.integers(0, 2)


def plain_decoding(answer_after: dict[Path, int], length: int) -> Path:
    """What a token at a time would say, if ``answer_after`` is what follows each text."""
    text: Path = ()
    while len(text) < length:
        text = (*text, answer_after.get(text, 0))
    return text


def choices(draft: Draft, answer_after: dict[Path, int]) -> list[int]:
    return [answer_after.get(path, 0) for path in [(), *token_paths(draft)]]


answers = st.dictionaries(st.lists(TOKENS, max_size=4).map(tuple), TOKENS)


@given(drafts(), answers)
def test_the_longest_path_that_plain_decoding_takes_is_accepted(
    draft: Draft, answer_after: dict[Path, int]
) -> None:
    merged = draft.merged()
    accepted = accepted_path(merged, choices(merged, answer_after))
    said = plain_decoding(answer_after, len(merged.tokens))
    longest = max((len(p) for p in token_paths(draft) if p == said[: len(p)]), default=0)
    assert tuple(merged.tokens[node] for node in accepted) == said[:longest]
    assert accepted == node_path(merged, accepted[-1] if accepted else -1)


@given(st.lists(TOKENS, max_size=6), TOKENS)
def test_a_perfect_chain_is_accepted_whole(tokens: list[int], after: int) -> None:
    assert accepted_path(Draft.chain(tokens), [*tokens, after]) == list(range(len(tokens)))


def test_nothing_is_accepted_of_a_wrong_first_token() -> None:
    """A right continuation of a wrong guess is no part of the answer."""
    assert accepted_path(Draft.chain([1, 2, 3]), [0, 2, 3, 4]) == []


def test_an_empty_draft_accepts_nothing() -> None:
    assert accepted_path(Draft(), [5]) == []


def test_the_longer_of_two_equal_siblings_is_found_once_they_are_merged() -> None:
    """A walk that takes the first matching sibling ends after one token."""
    twins = Draft(tokens=(1, 1, 2), parents=(-1, -1, 1)).merged()
    assert accepted_path(twins, [1, 2, 3]) == [0, 1]
