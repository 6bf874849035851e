"""The window, the pool, and lookahead as published, replayed by hand."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from decoding.draft import Draft, Verdict
from decoding.experience import Experience
from decoding.strategies import lookahead
from decoding.verify import accepted_path
from decoding.window import NgramPool, PoolGuesser, Window

PROMPT = (7, 7, 7, 7)  # one token, so that it does not matter which is drawn at random


def window(width: int = 3, ngram: int = 4) -> Window:
    return Window(width, ngram, lambda: 7)


def test_the_window_begins_with_one_row_long_enough_for_all() -> None:
    assert window(width=3, ngram=4).rows == [[7, 7, 7, 7]]


def test_warming_up_adds_a_row_a_forward() -> None:
    growing = window(width=3, ngram=4)
    assert growing.advance(1, [10, 11, 12, 13]) == []
    assert growing.rows == [[7, 7, 7], [10, 11, 12, 13]]
    assert growing.advance(2, [20, 21, 22, 23]) == []
    assert growing.rows == [[7, 7], [11, 12, 13], [21, 22, 23]]


def test_a_full_window_finds_an_ngram_in_every_column_and_rolls() -> None:
    full = window(width=3, ngram=4)
    full.rows = [[1, 2], [10, 11, 12], [20, 21, 22]]
    found = full.advance(0, [30, 31, 32])
    assert found == [(0, 10, 20, 30), (1, 11, 21, 31), (2, 12, 22, 32)]
    assert full.rows == [[11, 12], [20, 21, 22], [30, 31, 32]]


def test_the_tree_has_a_chain_on_top_and_columns_below() -> None:
    full = window(width=3, ngram=4)
    full.rows = [[1, 2], [10, 11, 12], [20, 21, 22]]
    tokens, parents = full.tree()
    assert tokens == [1, 2, 10, 11, 12, 20, 21, 22]
    assert parents == [-1, 0, -1, 0, 1, 2, 3, 4]


def test_the_pool_keeps_the_latest_continuations() -> None:
    pool = NgramPool(guesses=2)
    for ngram in ((1, 2, 3), (1, 4, 5), (1, 2, 3), (1, 6, 7), (8, 9, 9)):
        pool.add(ngram)
    assert pool.of(1) == [(6, 7), (2, 3)]
    assert pool.of(8) == [(9, 9)]
    assert pool.of(2) == []


def test_the_pool_guesses_along_its_continuations() -> None:
    pool = NgramPool(guesses=4)
    for ngram in ((1, 2, 3), (1, 2, 4), (1, 5, 6)):
        pool.add(ngram)
    guesser = PoolGuesser(pool, last=1)
    root = guesser.root()
    assert [guess.token for guess in guesser.guesses(root, 0.0)] == [5, 2]
    behind = guesser.follow(root, 2)
    assert behind is not None
    assert [guess.token for guess in guesser.guesses(behind, 0.0)] == [4, 3]
    assert guesser.follow(behind, 4) is None
    assert guesser.follow(root, 9) is None


# --- the published algorithm ----------------------------------------------------------------------

Model = Callable[[Sequence[int]], int]  # a text to its next token


def rhyming(text: Sequence[int]) -> int:
    """Says much the same again and again, so that the pool is of use."""
    return (3 * text[-1] + text[-2] + len(text) // 9) % 11


def published(model: Model, width: int, ngram: int, guesses: int, steps: int) -> list[list[int]]:
    """What each step emits, by the algorithm as the paper has it.

    Unlike in its code, the bonus token is kept, and paths of the window count as guesses, too: they
    are in the same tree.
    """
    text = [*PROMPT, model(PROMPT)]
    rows: list[list[int]] = [[7] * (width + ngram - 3)]
    pool: dict[int, list[list[int]]] = {}
    emitted = []
    for _ in range(steps):
        current = text[-1]
        columns = [
            [*text, *rows[0][:i], *(row[i] for row in rows[1:])]
            for i in range(len(rows[-1]) + (len(rows) == 1))
        ]
        if len(rows) == 1:
            columns = columns[1:]
        new = [model(column) for column in columns]
        best: list[int] = []
        of_window = [
            [*rows[0][:i], *(row[i] for row in rows[1:])]
            for i in range(len(rows[0]) + 1)
            if len(rows) == 1 or i < len(rows[-1])
        ]
        for guess in [*pool.get(current, []), *of_window]:
            right: list[int] = []
            while len(right) < len(guess) and guess[len(right)] == model([*text, *right]):
                right.append(guess[len(right)])
            best = max(best, right, key=len)
        emitted.append([*best, model([*text, *best])])
        if len(rows) < ngram - 1:
            newest = new if len(rows) == 1 else new[1:]
            rows = [row[1:] for row in rows] + [newest]
        else:
            for i in range(width):
                gram = [[current, *rows[0]][i], *(row[i] for row in rows[1:]), new[i]]
                known = pool.setdefault(gram[0], [])
                if gram[1:] in known:
                    known.remove(gram[1:])
                known.append(gram[1:])
                del known[:-guesses]
            rows = [rows[1][1:], *rows[2:], new]
        text += emitted[-1]
    return emitted


def verdict_of(model: Model, text: Sequence[int], draft: Draft) -> Verdict:
    draft = draft.merged()
    paths: list[list[int]] = [[]]
    for token, parent in zip(draft.tokens, draft.parents, strict=True):
        paths.append([*paths[parent + 1], token])
    choices = [model([*text, *path]) for path in paths]
    path = accepted_path(draft, choices)
    tokens = [choices[0], *(choices[1 + node] for node in path)]
    return Verdict(tuple(tokens), len(path), draft, tuple(choices))


def driven(model: Model, steps: int, **options: Any) -> list[list[int]]:
    """What each step of the strategy emits, with only the window switched on."""
    text = [*PROMPT, model(PROMPT)]
    request = SimpleNamespace(prompt=PROMPT, references=())
    seq: Any = SimpleNamespace(tokens=list(text), request=request, experience=Experience(200))
    strategy = lookahead.decode(seq, copying=False, recycling=False, phrases=False, **options)
    draft = next(strategy)
    emitted = []
    for _ in range(steps):
        verdict = verdict_of(model, text, draft)
        emitted.append(list(verdict.tokens))
        text += verdict.tokens
        draft = strategy.send(verdict)
    return emitted


@pytest.mark.parametrize(
    ("width", "ngram", "guesses"), [(3, 3, 2), (5, 4, 3), (7, 5, 7), (2, 3, 1), (4, 6, 2)]
)
def test_the_window_alone_is_the_published_algorithm(width: int, ngram: int, guesses: int) -> None:
    ours = driven(rhyming, 60, window=width, ngram=ngram, guesses=guesses)
    assert ours == published(rhyming, width, ngram, guesses, 60)
    assert max(map(len, ours)) > 1  # the pool was of use


def test_a_full_match_brings_the_bonus_token_too() -> None:
    """The published code drops it: N tokens instead of N − 1."""
    constant = driven(lambda text: 7, 12, window=3, ngram=4, guesses=2)
    assert max(map(len, constant)) >= 4
