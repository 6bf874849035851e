"""Lookahead decoding's window and its pool of n-grams (Fu et al., arXiv 2402.02057). No torch.

The window holds ``levels`` = N − 1 rows of guesses about the tokens behind the last one. Row 0 is a
chain of columns; in the rows below, a token's parent is the one above it in its column:

```
             column 0    1      2      3   …  W−1
 row 0       (last) ──▶ g01 ──▶ g02 ──▶ g03
               │         │       │       │
 row 1        g10       g11     g12     g13
               │         │       │       │
 row 2        g20       g21     g22     g23      ──▶  what the model says behind the newest row
```

What the model says behind the newest row completes an n-gram in each column. They go to the pool,
the rows move up, and the model's tokens become the newest row: a Jacobi iteration in two
dimensions.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from decoding.confidence import Confidence
from decoding.tree import Guess

Ngram = tuple[int, ...]


class Window:
    """``width`` columns of ``ngram`` − 1 levels, filled one level a forward.

    ``random_token`` draws what the first row begins with.
    """

    def __init__(self, width: int, ngram: int, random_token: Callable[[], int]) -> None:
        self._levels = ngram - 1
        self.rows: list[list[int]] = [[random_token() for _ in range(width + ngram - 3)]]

    def tree(self) -> tuple[list[int], list[int]]:
        """Tokens and parents of all nodes, row by row; parent −1 is the last committed token."""
        tokens: list[int] = []
        parents: list[int] = []
        above: list[int] = [-1]  # the nodes of the row above, by column
        for level, row in enumerate(self.rows):
            nodes = list(range(len(tokens), len(tokens) + len(row)))
            parents += [-1, *nodes][: len(row)] if level == 0 else above[: len(row)]
            above = [-1, *nodes] if level == 0 else nodes
            tokens += row
        return tokens, parents

    def advance(self, last: int, following: Sequence[int]) -> list[Ngram]:
        """Take over what the model says behind the newest row; returns the n-grams found.

        ``last`` is the token that the forward began with.
        """
        if len(self.rows) == self._levels:
            return self._roll(last, following)
        newest = list(following if len(self.rows) == 1 else following[1:])
        self.rows = [row[1:] for row in self.rows] + [newest]
        return []

    def _roll(self, last: int, following: Sequence[int]) -> list[Ngram]:
        columns = zip([last, *self.rows[0]], *self.rows[1:], following, strict=True)
        found = [tuple(column) for column in columns]
        first, *others = [*self.rows[1:], list(following)]
        self.rows = [first[1:], *others]
        return found


class NgramPool:
    """What came behind a token in the window: up to ``guesses`` continuations, the latest last."""

    def __init__(self, guesses: int) -> None:
        self._guesses = guesses
        self._of: dict[int, OrderedDict[Ngram, None]] = {}

    def add(self, ngram: Ngram) -> None:
        """Keep an n-gram; of a token with too many the one longest unseen is dropped."""
        known = self._of.setdefault(ngram[0], OrderedDict())
        known.pop(ngram[1:], None)
        known[ngram[1:]] = None
        if len(known) > self._guesses:
            known.popitem(last=False)

    def of(self, token: int) -> list[Ngram]:
        """The continuations of a token, the latest first."""
        return list(reversed(self._of.get(token, ())))


_SOURCE = "pool"
_PRIORS = (0.3, 0.5, 0.6, 0.6)  # by depth
_State = tuple[int, list[Ngram]]  # depth, continuations


class PoolGuesser:
    """Guesses from the pool."""

    def __init__(self, pool: NgramPool, last: int, general: Confidence | None = None) -> None:
        self._pool = pool
        self._confidence = Confidence(general)
        self._last = last

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted, and see how the latest guess did."""
        for guess in self._pool.of(self._last)[:1]:
            for depth, (expected, token) in enumerate(zip(guess, tokens, strict=False)):
                self._confidence.learn((_SOURCE, depth), expected == token)
                if expected != token:
                    break
        self._last = tokens[-1]

    def root(self) -> _State | None:
        """All continuations of the last token."""
        return 0, self._pool.of(self._last)

    def guesses(self, state: _State, least_chance: float) -> Iterator[Guess]:
        """The next tokens of the continuations."""
        depth, continuations = state
        for token in dict.fromkeys(each[depth] for each in continuations):
            prior = _PRIORS[min(depth, len(_PRIORS) - 1)]
            yield Guess(token, self._confidence.chance((_SOURCE, depth), prior), _SOURCE)

    def follow(self, state: _State, token: int) -> _State | None:
        """Those that go on with this token."""
        depth, continuations = state
        left = [c for c in continuations if c[depth] == token and len(c) > depth + 1]
        return (depth + 1, left) if left else None
