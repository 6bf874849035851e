"""One sequence's part of a forward, as the engine asks for it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Segment(NamedTuple):
    """A tree of tokens that continues a sequence's cached ones.

    ``parents[i] < i`` is the local index of the token before token ``i``, −1 the last cached token.
    ``slots`` holds the cache slots of positions ``0 .. start + len(tokens) − 1``: the first
    ``start`` are filled, token ``i`` is written to ``slots[start + i]`` (its place in the list, not
    its position in the tree). Logits are wanted from token ``logits_from`` on.
    """

    tokens: Sequence[int]
    parents: Sequence[int]
    start: int
    slots: Indices
    logits_from: int

    def positions(self) -> list[int]:
        """The position of each token in its sequence."""
        positions: list[int] = []
        for parent in self.parents:
            positions.append(self.start if parent < 0 else positions[parent] + 1)
        return positions


def wanted_rows(segments: Sequence[Segment]) -> Indices:
    """The rows whose logits are wanted, of all segments' rows one after the other."""
    rows: list[int] = []
    end = 0
    for segment in segments:
        first, end = end + segment.logits_from, end + len(segment.tokens)
        rows += range(first, end)
    return np.array(rows, np.int64)
