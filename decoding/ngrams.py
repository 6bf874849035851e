"""Where a run of tokens has occurred before: in a fixed text, and in one that grows. No torch."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_POSITION_BITS = 24
_MOST_TOKENS = 1 << _POSITION_BITS
_HASH_BITS = 38  # beside the position, and one bit free, in a signed integer of 64
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio, as Knuth hashes
_WORD = (1 << 64) - 1

Integers = NDArray[np.int64]


class NgramIndex:
    """The n-grams of a text that does not change, ``size`` tokens each.

    One sorted array of hashes, each with the position behind its n-gram in the low bits: 8 bytes a
    token, built at once (32k tokens in about a millisecond), looked up by bisection. That different
    n-grams may share a hash is left so: what is found is only a guess.

    Raises:
        ValueError: the text is longer than 16 million tokens.
    """

    def __init__(self, tokens: Sequence[int], size: int) -> None:
        if len(tokens) >= _MOST_TOKENS:
            raise ValueError(f"{len(tokens)} tokens are too many to index")
        self._size = size
        self._tokens = np.array(tokens, np.int64)
        ends = np.arange(size, max(size, len(tokens) + 1))
        ngrams = self._tokens[ends[:, None] - np.arange(size, 0, -1)]
        self._entries = np.sort(_hashed(ngrams) << _POSITION_BITS | ends)

    def find(self, context: Sequence[int], most: int) -> list[int]:
        """The positions behind the first ``most`` of the longest matches of the context's end."""
        ends = self._ends(context[-self._size :])
        for length in range(self._size + 1, len(context) + 1):
            if len(ends) <= most:
                break
            ends_inside = ends[ends >= length]
            longer = ends_inside[self._tokens[ends_inside - length] == context[-length]]
            if not len(longer):
                break
            ends = longer
        found: list[int] = ends[:most].tolist()
        return found

    def _ends(self, ngram: Sequence[int]) -> Integers:
        key = _hash_of(ngram)
        first, last = self._entries.searchsorted(
            [key << _POSITION_BITS, (key + 1) << _POSITION_BITS]
        )
        return self._entries[first:last] & (_MOST_TOKENS - 1)


class GrowingNgramIndex:
    """The n-grams of a text that tokens are appended to."""

    def __init__(self) -> None:
        self._ends: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)

    def add(self, ngram: Sequence[int], end: int) -> None:
        """Note an occurrence right before position ``end``."""
        self._ends[tuple(ngram)].append(end)

    def find(self, ngram: Sequence[int], most: int) -> list[int]:
        """The positions right behind the last ``most`` occurrences."""
        return self._ends.get(tuple(ngram), [])[-most:]


def _hash_of(ngram: Sequence[int]) -> int:
    """The same of one n-gram, without arrays: it is looked up at every token."""
    value = 0
    for token in ngram:
        value = ((value ^ token) * int(_MULTIPLIER)) & _WORD
    return value >> (64 - _HASH_BITS)


def _hashed(ngrams: Integers) -> Integers:
    """A hash of every row, ``[rows, size]`` to ``[rows]``."""
    value = np.zeros(len(ngrams), np.uint64)
    for column in ngrams.T:
        value = (value ^ column.astype(np.uint64)) * _MULTIPLIER
    return (value >> np.uint64(64 - _HASH_BITS)).astype(np.int64)
