"""The indexes find what a search through the whole text would."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoding.ngrams import GrowingNgramIndex, NgramIndex

SMALL_TEXT = st.lists(st.integers(0, 3), max_size=60)


def ends_by_search(text: Sequence[int], ngram: Sequence[int]) -> list[int]:
    size = len(ngram)
    ends = range(size, len(text) + 1)
    return [end for end in ends if list(text[end - size : end]) == list(ngram)]


@given(text=SMALL_TEXT, ngram=st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_every_occurrence_is_found(text: list[int], ngram: list[int]) -> None:
    assert NgramIndex(text, len(ngram)).find(ngram, most=100) == ends_by_search(text, ngram)


@given(text=SMALL_TEXT, ngram=st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_a_growing_text_is_found_in_like_a_fixed_one(text: list[int], ngram: list[int]) -> None:
    index, size = GrowingNgramIndex(), len(ngram)
    for end in range(size, len(text) + 1):
        index.add(text[end - size : end], end)
    assert index.find(ngram, most=100) == ends_by_search(text, ngram)


@given(text=SMALL_TEXT, context=st.lists(st.integers(0, 3), min_size=2, max_size=8))
def test_of_too_many_occurrences_the_longest_matches_stay(
    text: list[int], context: list[int]
) -> None:
    found = NgramIndex(text, size=2).find(context, most=1)
    occurrences = [ends_by_search(text, context[-size:]) for size in range(2, len(context) + 1)]
    longest = next((ends for ends in reversed(occurrences) if ends), [])
    if len(ends := occurrences[0]) > 1:
        assert found == longest[:1]
    else:
        assert found == ends


def test_the_latest_occurrences_of_a_growing_text_are_returned() -> None:
    index = GrowingNgramIndex()
    for end in range(1, 9):
        index.add([5], end)
    assert index.find([5], most=3) == [6, 7, 8]


@pytest.mark.parametrize("tokens", [[], [1], [1, 2]])
def test_a_text_shorter_than_an_ngram_holds_none(tokens: list[int]) -> None:
    assert NgramIndex(tokens, size=3).find([1, 2, 3], most=4) == []


def test_large_token_ids_are_told_apart() -> None:
    text = [262_143, 7, 131_071, 7, 262_142, 7]
    assert NgramIndex(text, size=2).find([131_071, 7], most=4) == [4]
