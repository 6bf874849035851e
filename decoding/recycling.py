"""Token recycling: what the model lately found likely behind each token. No torch.

Luo et al., *Turning Trash into Treasure* (arXiv 2408.08696): every verified row, accepted or not,
says which tokens it held likely; a table by the row's own token keeps the last such list, for all
requests together, and drafts are grown from it. Where the paper fills a fixed tree, chances by rank
decide here. The table begins with what the model finds likely without any context
(`decoding/hot_start.py`): guesses of a kind of their own, less often right.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoding.confidence import Confidence
from decoding.tree import Guess

CANDIDATES = 4
_PRIORS = (0.35, 0.12, 0.07, 0.05)  # by rank
UNKNOWN = -1
_SOURCE = "recycled"

_Kind = tuple[str, int, bool]  # source, rank, whether a verified row said so


class Successors:
    """The likeliest tokens behind every token of the vocabulary, when it last was in a forward.

    Of those that were in none yet, ``start`` says what is likely, ``[vocabulary, CANDIDATES]``.
    """

    def __init__(self, vocabulary_size: int, start: NDArray[np.int32] | None = None) -> None:
        nothing = np.full((vocabulary_size, CANDIDATES), UNKNOWN, np.int32)
        self._table = nothing if start is None else start.copy()
        self._was_seen = np.zeros(vocabulary_size, bool)

    def update(self, tokens: Sequence[int], candidates: NDArray[np.int32]) -> None:
        """Take over what rows with these tokens found likeliest, ``[rows, CANDIDATES]``."""
        places = list(tokens)
        self._table[places] = candidates
        self._was_seen[places] = True

    def was_seen(self, token: int) -> bool:
        """Whether they are those of a verified row."""
        return bool(self._was_seen[token])

    def of(self, token: int) -> list[int]:
        """The likeliest ones, best first; none where the token was not seen yet."""
        row: list[int] = self._table[token].tolist()
        return row if row[0] != UNKNOWN else []


class Recycler:
    """Guesses from the table. Its state at a node is the node's token."""

    def __init__(
        self, successors: Successors, last: int, general: Confidence | None = None
    ) -> None:
        self._successors = successors
        self._confidence = Confidence(general)
        self._last = last
        self._expected = successors.of(last)
        self._was_seen = successors.was_seen(last)
        self._chances = self._by_rank()

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted.

        Only the first token tells how good the table was: for the others it has been brought up to
        date by the very rows that chose them.
        """
        for rank, expected in enumerate(self._expected):
            self._confidence.learn((_SOURCE, rank, self._was_seen), expected == tokens[0])
        self._chances = self._by_rank()
        self._last = tokens[-1]
        self._expected = self._successors.of(self._last)
        self._was_seen = self._successors.was_seen(self._last)

    def _by_rank(self) -> tuple[list[float], list[float]]:
        """The chances of tokens that were in no row yet, and of those that were."""
        return self._chances_if(False), self._chances_if(True)

    def _chances_if(self, was_seen: bool) -> list[float]:
        kinds: list[tuple[_Kind, float]] = [
            ((_SOURCE, rank, was_seen), prior) for rank, prior in enumerate(_PRIORS)
        ]
        return [self._confidence.chance(kind, prior) for kind, prior in kinds]

    def root(self) -> int:
        """The last token."""
        return self._last

    def guesses(self, state: int, least_chance: float) -> list[Guess]:
        """Its likeliest successors."""
        chances = self._chances[self._successors.was_seen(state)]
        if least_chance > max(chances):
            return []
        likeliest = zip(self._successors.of(state), chances, strict=False)
        return [Guess(token, p, _SOURCE) for token, p in likeliest if p >= least_chance]

    def follow(self, state: int, token: int) -> int:
        """Whatever comes, the table has something to say about it."""
        return token
