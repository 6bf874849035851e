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

    def positions(self) -> Indices:
        """The position of each token in its sequence, ``[tokens]``."""
        depth: list[int] = []
        for parent in self.parents:
            depth.append(0 if parent < 0 else depth[parent] + 1)
        return self.start + np.array(depth, np.int64)


def wanted_rows(segments: Sequence[Segment]) -> Indices:
    """The rows whose logits are wanted, of all segments' rows one after the other."""
    ends = np.cumsum([len(segment.tokens) for segment in segments])
    return np.concatenate(
        [
            np.arange(end - len(segment.tokens) + segment.logits_from, end)
            for segment, end in zip(segments, ends, strict=True)
        ]
    )
