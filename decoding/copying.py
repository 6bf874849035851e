"""Drafts copied from known text: cursors that follow the answer through it, and a tree of guesses.

A cursor stands in the text behind a run of tokens that the answer ends with, too. Every token that
is emitted moves the cursors that foresaw it and drops the others, and the n-gram that the answer
now ends with starts new ones. So a cursor knows the length of its match without any search: the
work for a token is bounded, as with a suffix automaton (SAM-Decoding, arXiv 2411.10666), several
places can be followed side by side, and the index is a hundred times faster to build. No torch.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from decoding.confidence import LONGEST_MATCH, Confidence
from decoding.draft import Draft
from decoding.ngrams import GrowingNgramIndex, NgramIndex
from decoding.request import Reference

_MOST_CURSORS = 16
_LEAST_CHANCE = 0.05  # of being accepted, for a token to be proposed; the budget decides
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


class Copier:
    """Follows one answer through references, prompt and the answer itself.

    ``match`` is how many tokens must agree before anything is copied, ``copy`` the most nodes of a
    draft.
    """

    def __init__(
        self, references: Sequence[Reference], prompt: Sequence[int], *, match: int, copy: int
    ) -> None:
        self._match = match
        self._copy = copy
        self._text = Text()
        self._cursors: list[Cursor] = []
        self._confidence = Confidence()
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
        for token in tokens:
            self._follow(token)
            text.append(token)
            self._answer.add(text[-self._match :], len(text))
        self._find()

    def _follow(self, token: int) -> None:
        foreseen = [self._text.token(cursor.position) for cursor in self._cursors]
        is_contested = len(set(foreseen)) > 1
        leading: set[str] = set()
        followers: list[Cursor] = []
        for cursor, guess in zip(self._cursors, foreseen, strict=True):
            is_right = guess == token
            if cursor.source not in leading:
                leading.add(cursor.source)
                self._confidence.learn(cursor.source, cursor.length, is_contested, is_right)
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
        """Add cursors where the last n-gram occurred before, and keep the best ones."""
        context, here = self._text.tokens[-LONGEST_MATCH:], len(self._text.tokens)
        ends = self._known.find(context, _MOST_CURSORS)
        ends += self._answer.find(context[-self._match :], _MOST_CURSORS)
        followed = {cursor.position for cursor in self._cursors}
        self._cursors += [self._found(end) for end in ends if end not in followed and end < here]
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
        return -min(length, LONGEST_MATCH), -self._confidence.chance(source, length, True), place

    def foresees(self, token: int, source: str) -> bool:
        """Whether this token is expected next in text from this source."""
        return any(
            cursor.source == source and self._text.token(cursor.position) == token
            for cursor in self._cursors
        )

    # --- drafting ---

    def draft(self) -> Draft:
        """The most likely continuations, as a tree: most likely nodes first."""
        tokens: list[int] = []
        parents: list[int] = []
        chances: list[float] = []
        sources: list[str] = []
        order = count()
        heap: list[tuple[float, int, int, int, list[Cursor]]] = []

        def offer(chance: float, parent: int, cursors: list[Cursor]) -> None:
            for token, share, followers in self._continuations(cursors):
                if chance * share >= _LEAST_CHANCE:
                    heappush(heap, (-chance * share, next(order), parent, token, followers))

        offer(1.0, -1, self._cursors)
        while heap and len(tokens) < self._copy:
            negative_chance, _, parent, token, followers = heappop(heap)
            tokens.append(token)
            parents.append(parent)
            chances.append(-negative_chance)
            sources.append(followers[0].source)
            offer(-negative_chance, len(tokens) - 1, followers)
        return Draft(tuple(tokens), tuple(parents), tuple(chances), tuple(sources))

    def _continuations(self, cursors: list[Cursor]) -> Iterator[tuple[int, float, list[Cursor]]]:
        """The tokens that cursors foresee, the chance of each, and the cursors behind it."""
        followers: dict[int, list[Cursor]] = {}
        for cursor in cursors:
            token = self._text.token(cursor.position)
            if token != _GAP:
                followers.setdefault(token, []).append(cursor)
        left = 1.0
        for token, (best, *others) in followers.items():
            chance = self._confidence.chance(best.source, best.length, len(followers) > 1)
            yield token, left * chance, [cursor.advanced() for cursor in (best, *others)]
            left *= 1 - chance


class Agreement:
    """Counts the tokens of an answer that are where a prediction has them.

    Behind a difference the prediction counts again once four tokens in a row agree with it. What is
    counted depends on the two texts alone, not on what was drafted.
    """

    def __init__(self, prediction: Sequence[int]) -> None:
        reference = Reference("prediction", tuple(prediction), likeness=1.0)
        self._copier = Copier([reference], (), match=_FIRM, copy=1)
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
