"""Token recycling: what the model lately found likely behind each token. No torch.

Luo et al., *Turning Trash into Treasure* (arXiv 2408.08696): every verified row, accepted or not,
says which tokens it held likely; a table by the row's own token keeps the last such list, for all
requests together, and drafts are grown from it. Where the paper fills a fixed tree, chances by rank
decide here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoding.confidence import Confidence
from decoding.tree import Guess

CANDIDATES = 4
_PRIORS = (0.35, 0.12, 0.07, 0.05)  # by rank
_UNKNOWN = -1
_SOURCE = "recycled"


class Successors:
    """The likeliest tokens behind every token of the vocabulary, when it last was in a forward."""

    def __init__(self, vocabulary_size: int) -> None:
        self._table = np.full((vocabulary_size, CANDIDATES), _UNKNOWN, np.int32)

    def update(self, tokens: Sequence[int], candidates: NDArray[np.int32]) -> None:
        """Take over what rows with these tokens found likeliest, ``[rows, CANDIDATES]``."""
        self._table[list(tokens)] = candidates

    def of(self, token: int) -> list[int]:
        """The likeliest ones, best first; none where the token was not seen yet."""
        row: list[int] = self._table[token].tolist()
        return row if row[0] != _UNKNOWN else []


class Recycler:
    """Guesses from the table. Its state at a node is the node's token."""

    def __init__(
        self, successors: Successors, last: int, general: Confidence | None = None
    ) -> None:
        self._successors = successors
        self._confidence = Confidence(general)
        self._last = last
        self._expected = successors.of(last)
        self._chances = self._by_rank()

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted.

        Only the first token tells how good the table was: for the others it has been brought up to
        date by the very rows that chose them.
        """
        for rank, expected in enumerate(self._expected):
            self._confidence.learn((_SOURCE, rank), expected == tokens[0])
        self._chances = self._by_rank()
        self._last = tokens[-1]
        self._expected = self._successors.of(self._last)

    def _by_rank(self) -> list[float]:
        ranked = enumerate(_PRIORS)
        return [self._confidence.chance((_SOURCE, rank), prior) for rank, prior in ranked]

    def root(self) -> int:
        """The last token."""
        return self._last

    def guesses(self, state: int, least_chance: float) -> list[Guess]:
        """Its likeliest successors."""
        if least_chance > max(self._chances):
            return []
        likeliest = zip(self._successors.of(state), self._chances, strict=False)
        return [Guess(token, p, _SOURCE) for token, p in likeliest if p >= least_chance]

    def follow(self, state: int, token: int) -> int:
        """Whatever comes, the table has something to say about it."""
        return token
