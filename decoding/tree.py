"""Grows a draft: what several guessers expect to come next, as one tree, the likeliest first."""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from math import prod
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from decoding.draft import Draft


class Guess(NamedTuple):
    """A token that may come next, how likely, and who says so."""

    token: int
    chance: float
    source: str


class Guesser(Protocol):
    """Something that expects tokens. Its state at a node of the tree is its own business."""

    def root(self) -> Any:
        """The state behind the last committed token."""

    def guesses(self, state: Any, least_chance: float) -> Iterable[Guess]:
        """What may come next, each by itself: chances need not add up.

        Less likely ones than that may be left out.
        """

    def follow(self, state: Any, token: int) -> Any:
        """The state behind ``token``, or None where nothing is expected any more."""


LEAST_CHANCE = 0.025  # of being accepted: what is less likely is never proposed

_CHANCE = attrgetter("chance")
_States = list[tuple[Guesser, Any]]


def grow(guessers: Sequence[Guesser], *, nodes: int, least_chance: float) -> Draft:
    """The ``nodes`` likeliest continuations that have at least this chance of being accepted.

    A node is as likely as its parent, times the best guess at it, times the chance that none of its
    likelier siblings is right.
    """
    tokens: list[int] = []
    parents: list[int] = []
    chances: list[float] = []
    sources: list[str] = []
    order = count()
    heap: list[tuple[float, int, int, Guess, _States]] = []

    def offer(chance: float, parent: int, states: _States) -> None:
        left = chance
        found = _guessed(states, least_chance / chance)
        for guess in _distinct(found) if len(found) > 1 else found:
            if left * guess.chance >= least_chance:
                heappush(heap, (-left * guess.chance, next(order), parent, guess, states))
            left *= 1 - guess.chance

    offer(1.0, -1, [(guesser, guesser.root()) for guesser in guessers])
    while heap and len(tokens) < nodes:
        negative_chance, _, parent, guess, states = heappop(heap)
        tokens.append(guess.token)
        parents.append(parent)
        chances.append(-negative_chance)
        sources.append(guess.source)
        offer(-negative_chance, len(tokens) - 1, _behind(states, guess.token))
    return Draft(tuple(tokens), tuple(parents), tuple(chances), tuple(sources))


def _guessed(states: _States, least_chance: float) -> list[Guess]:
    """What they guess, until one of them is so sure that another guess would not be worth it."""
    found: list[Guess] = []
    for guesser, state in states:
        guesses = list(guesser.guesses(state, least_chance))
        found += guesses
        if prod(1 - guess.chance for guess in guesses) < least_chance:
            break
    return found


def _distinct(guesses: list[Guess]) -> list[Guess]:
    """The best guess at every token, the likeliest first."""
    best: dict[int, Guess] = {}
    for guess in guesses:
        known = best.get(guess.token)
        if known is None or known.chance < guess.chance:
            best[guess.token] = guess
    return sorted(best.values(), key=_CHANCE, reverse=True)


def _behind(states: _States, token: int) -> _States:
    return [
        (guesser, behind)
        for guesser, state in states
        if (behind := guesser.follow(state, token)) is not None
    ]
