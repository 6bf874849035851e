"""Guesses from what earlier answers said behind the same words. No torch.

Retrieval of drafts from a store of answers (REST, arXiv 2311.08252; SuffixDecoding, arXiv
2411.04975), reduced to what a small store is good for: stock phrases of two or three tokens.
"""

from collections.abc import Sequence

import numpy as np

from decoding.confidence import Confidence
from decoding.tree import Guess

_SIZES = (3, 2)  # tokens of a phrase, the longest first
_LONGEST = _SIZES[0]
_FOLLOWERS = 3
_PLACES = 1 << 18  # 5 MB, for the phrases of about five hundred answers
_NOTHING = -1
_PRIORS = (0.4, 0.15, 0.1)  # by rank
_SOURCE = "phrase"

_Kind = tuple[str, int, int, int]  # source, tokens of the phrase, rank, how many followers it has


class Phrases:
    """What followed each phrase in the answers of an engine, those that followed it often first.

    A table of fixed size: a phrase has one place, and a newer one that needs it takes it over.
    Phrases belong to a ``salt``: what one tenant was answered is never guessed for another.
    """

    def __init__(self) -> None:
        self._keys = np.zeros(_PLACES, np.int64)
        self._followers = np.full((_PLACES, _FOLLOWERS), _NOTHING, np.int32)

    def learn(self, salt: str, text: Sequence[int]) -> None:
        """Take over a text, every token of it behind the phrases it follows."""
        for end in range(min(_SIZES), len(text)):
            for size in _SIZES:
                if size <= end:
                    self._add((salt, *text[end - size : end]), text[end])

    def behind(self, salt: str, words: tuple[int, ...]) -> tuple[int, list[int]]:
        """The longest known phrase that the words end with: its size, and what followed it."""
        for size in _SIZES:
            if len(words) < size:
                continue
            key = hash((salt, *words[-size:]))
            place = key % _PLACES
            if self._keys[place] == key:
                row: list[int] = self._followers[place].tolist()
                return size, row[: row.index(_NOTHING)] if _NOTHING in row else row
        return 0, []

    def _add(self, phrase: tuple[str | int, ...], token: int) -> None:
        """Note a follower: one that comes again moves up a place, a new one takes the last."""
        key = hash(phrase)
        place = key % _PLACES
        row = self._followers[place]
        if self._keys[place] != key:
            self._keys[place] = key
            row[:] = _NOTHING
        known: list[int] = row.tolist()
        if token in known:
            rank = known.index(token)
            above = max(0, rank - 1)
            row[rank], row[above] = known[above], token
        else:
            row[known.index(_NOTHING) if _NOTHING in known else -1] = token


class PhraseGuesser:
    """Guesses from the table. Its state at a node is the last tokens there."""

    def __init__(
        self, phrases: Phrases, salt: str, tokens: Sequence[int], general: Confidence | None = None
    ) -> None:
        self._phrases = phrases
        self._salt = salt
        self._confidence = Confidence(general)
        self._chances: dict[_Kind, float] = {}  # as they are after the last token
        self._words = tuple(tokens[-_LONGEST:])
        self._size, self._expected = phrases.behind(salt, self._words)

    def extend(self, tokens: Sequence[int]) -> None:
        """Take over what was emitted."""
        for rank, expected in enumerate(self._expected):
            kind = (_SOURCE, self._size, rank, len(self._expected))
            self._confidence.learn(kind, expected == tokens[0])
        self._chances.clear()
        self._words = (*self._words, *tokens)[-_LONGEST:]
        self._size, self._expected = self._phrases.behind(self._salt, self._words)

    def root(self) -> tuple[int, ...]:
        """The last tokens."""
        return self._words

    def guesses(self, state: tuple[int, ...], least_chance: float) -> list[Guess]:
        """What followed them."""
        size, followers = self._phrases.behind(self._salt, state)
        found = [
            Guess(token, self._chance((_SOURCE, size, rank, len(followers))), _SOURCE)
            for rank, token in enumerate(followers)
        ]
        return [guess for guess in found if guess.chance >= least_chance]

    def follow(self, state: tuple[int, ...], token: int) -> tuple[int, ...]:
        """Whatever comes, something may have followed it."""
        return (*state[1 - _LONGEST :], token)

    def _chance(self, kind: _Kind) -> float:
        chance = self._chances.get(kind)
        if chance is None:
            chance = self._chances[kind] = self._confidence.chance(kind, _PRIORS[kind[2]])
        return chance
