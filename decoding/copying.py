"""Guesses from known text: cursors that follow the answer through it.

A cursor stands in the text behind a run of tokens that the answer ends with, too. Every token that
is emitted moves the cursors that foresaw it and drops the others, and the n-gram that the answer
now ends with starts new ones. So a cursor knows the length of its match without any search: the
work for a token is bounded, as with a suffix automaton (SAM-Decoding, arXiv 2411.10666), several
places can be followed side by side, and the index is a hundred times faster to build. No torch.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from decoding.confidence import Confidence
from decoding.ngrams import GrowingNgramIndex, NgramIndex
from decoding.request import Reference
from decoding.tree import Guess

LONGEST_MATCH = 16  # tokens; longer matches are not told apart
_MOST_CURSORS = 16
_FIRM = 4  # a match of so many tokens does not end by chance: the text was edited here
_LEFT_OUT = 8  # tokens that an edit may have left out
_GAP = -1  # no token: between texts, and behind the last


class Cursor(NamedTuple):
    """A place in the text: the token at ``position`` may come next, ``length`` before it agree."""

    position: int
    length: int
    source: str

    def advanced(self) -> "Cursor":
        """Behind the token it foresaw."""
        return Cursor(self.position + 1, self.length + 1, self.source)


class Text:
    """All there is to copy from, as one run of tokens: pieces, each from a source."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._starts: list[int] = []
        self._sources: list[str] = []

    def start(self, source: str, tokens: Sequence[int] = ()) -> int:
        """Begin a piece; returns its position."""
        self._starts.append(len(self.tokens))
        self._sources.append(source)
        self.tokens += tokens
        return self._starts[-1]

    def token(self, position: int) -> int:
        """The token at a position, no token behind the last."""
        return self.tokens[position] if position < len(self.tokens) else _GAP

    def source(self, position: int) -> str:
        """The source of the piece that a position is in."""
        return self._sources[bisect_right(self._starts, position) - 1]

    def length_of_match(self, end: int, at_least: int) -> int:
        """How many tokens before ``end`` are those that the text ends with."""
        most = min(LONGEST_MATCH, end)
        while at_least < most and self.tokens[end - 1 - at_least] == self.tokens[-1 - at_least]:
            at_least += 1
        return at_least


_State = tuple[int, list[Cursor]]  # tokens since the root, and where cursors stood there
_Kind = tuple[str, int, bool]  # source, class of length, whether other cursors disagree


class Copier:
    """Follows one answer through references, prompt and the answer itself.

    ``match`` is how many tokens must agree before anything is copied; ``general`` what other
    requests have shown.
    """

    def __init__(
        self,
        references: Sequence[Reference],
        prompt: Sequence[int],
        *,
        match: int,
        general: Confidence | None = None,
    ) -> None:
        self._match = match
        self._text = Text()
        self._cursors: list[Cursor] = []
        self._confidence = Confidence(general)
        self._chances: dict[_Kind, float] = {}  # as they are after the last token
        for reference in references:
            start = self._text.start(reference.source, (*reference.tokens, _GAP))
            if reference.likeness:
                length = round(LONGEST_MATCH * reference.likeness)
                self._cursors.append(Cursor(start, length, reference.source))
        self._text.start("prompt", prompt)
        self._known = NgramIndex(self._text.tokens, match)
        self._answer = GrowingNgramIndex()
        self._text.start("answer")
        self._find()

    # --- following the answer ---

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted."""
        text = self._text.tokens
        self._chances.clear()
        for token in tokens:
            self._follow(token)
            text.append(token)
            self._answer.add(text[-self._match :], len(text))
        self._find()

    def _follow(self, token: int) -> None:
        tokens, end = self._text.tokens, len(self._text.tokens)
        positions = [cursor.position for cursor in self._cursors]
        foreseen = [tokens[position] if position < end else _GAP for position in positions]
        is_contested = len(set(foreseen)) > 1
        leading: set[str] = set()
        followers: list[Cursor] = []
        for cursor, guess in zip(self._cursors, foreseen, strict=True):
            is_right = guess == token
            if cursor.source not in leading:
                leading.add(cursor.source)
                kind = _kind(cursor.source, cursor.length, is_contested)
                self._confidence.learn(kind, is_right)
            followers += [cursor.advanced()] if is_right else self._realigned(cursor, token)
        self._cursors = followers

    def _realigned(self, cursor: Cursor, token: int) -> Iterator[Cursor]:
        """Where the text may go on after an edit: behind what was left out, replaced, put in."""
        position, length, source = cursor
        if length < _FIRM:
            return
        ahead = self._text.tokens[position + 1 : position + 1 + _LEFT_OUT]
        if token in ahead:
            yield Cursor(position + 2 + ahead.index(token), 1, source)
        yield Cursor(position + 1, 0, source)
        yield Cursor(position, 0, source)

    def _find(self) -> None:
        """Add cursors where the last n-gram occurred before, as long as there are few."""
        if len(self._cursors) < _MOST_CURSORS:
            context, here = self._text.tokens[-LONGEST_MATCH:], len(self._text.tokens)
            ends = self._known.find(context, _MOST_CURSORS)
            ends += self._answer.find(context[-self._match :], _MOST_CURSORS)
            followed = {cursor.position for cursor in self._cursors}
            self._cursors += [self._found(e) for e in ends if e not in followed and e < here]
        self._cursors.sort(key=self._rank)
        del self._cursors[_MOST_CURSORS:]

    def _found(self, end: int) -> Cursor:
        length = self._text.length_of_match(end, at_least=self._match)
        return Cursor(end, length, self._text.source(end - 1))

    def _rank(self, cursor: Cursor) -> tuple[int, float, int]:
        """The longest match first, then the more reliable source.

        Then the first place, as retrieval puts the best document first, but in the answer the last.
        """
        position, length, source = cursor
        place = -position if source == "answer" else position
        return -min(length, LONGEST_MATCH), -self._chance(source, length, True), place

    def foresees(self, token: int, source: str) -> bool:
        """Whether this token is expected next in text from this source."""
        return any(
            cursor.source == source and self._text.token(cursor.position) == token
            for cursor in self._cursors
        )

    # --- guessing, for a tree ---

    def root(self) -> _State:
        """All cursors."""
        return 0, self._cursors

    def guesses(self, state: _State, least_chance: float) -> list[Guess]:
        """What the cursors foresee; of several that foresee the same the best one counts."""
        depth, cursors = state
        best: dict[int, Cursor] = {}
        for cursor in cursors:
            best.setdefault(self._text.token(cursor.position + depth), cursor)
        best.pop(_GAP, None)
        is_contested = len(best) > 1
        return [
            Guess(token, self._chance(c.source, c.length + depth, is_contested), c.source)
            for token, c in best.items()
        ]

    def follow(self, state: _State, token: int) -> _State | None:
        """The cursors that foresaw the token, behind it."""
        depth, cursors = state
        tokens, end = self._text.tokens, len(self._text.tokens) - depth
        right = [c for c in cursors if c.position < end and tokens[c.position + depth] == token]
        return (depth + 1, right) if right else None

    def _chance(self, source: str, length: int, is_contested: bool) -> float:
        kind = _kind(source, length, is_contested)
        chance = self._chances.get(kind)
        if chance is None:
            prior = _PRIORS[is_contested][kind[1]]
            chance = self._chances[kind] = self._confidence.chance(kind, prior)
        return chance


_CLASS_OF_LENGTH = (0, 1, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7)

# By class of length. How often the default model's answers (to questions, quotes, rewrites and code
# edits that no benchmark here asks for) went on as the text did, first where nothing spoke against
# it, then where other places went on otherwise.
_PRIORS = (
    (0.35, 0.35, 0.6, 0.7, 0.8, 0.9, 0.94, 0.98),
    (0.3, 0.13, 0.36, 0.5, 0.55, 0.73, 0.75, 0.86),
)


def _kind(source: str, length: int, is_contested: bool) -> _Kind:
    return source, _CLASS_OF_LENGTH[min(length, LONGEST_MATCH)], is_contested


class Agreement:
    """Counts the tokens of an answer that are where a prediction has them.

    Behind a difference the prediction counts again once four tokens in a row agree with it. What is
    counted depends on the two texts alone, not on what was drafted.
    """

    def __init__(self, prediction: Sequence[int]) -> None:
        reference = Reference("prediction", tuple(prediction), likeness=1.0)
        self._copier = Copier([reference], (), match=_FIRM)
        self._most = len(prediction)
        self._count = 0

    @property
    def accepted(self) -> int:
        """Tokens of the prediction that appeared in the answer."""
        return min(self._count, self._most)

    @property
    def rejected(self) -> int:
        """Tokens of the prediction that did not."""
        return self._most - self.accepted

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted."""
        for token in tokens:
            self._count += self._copier.foresees(token, "prediction")
            self._copier.extend([token])
