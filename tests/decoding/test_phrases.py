"""Phrases of earlier answers: what the table keeps, for whom, and that the engine learns them."""

import pytest
from tiny_engine import Client, MakeEngine, asking

from decoding.phrases import PhraseGuesser, Phrases

ONLY_PHRASES = {"copying": False, "recycling": False}


def phrases(*texts: list[int], salt: str = "") -> Phrases:
    known = Phrases()
    for text in texts:
        known.learn(salt, text)
    return known


def test_the_longest_known_phrase_says_what_followed_it() -> None:
    known = phrases([1, 2, 3, 4], [9, 2, 3, 5])
    assert known.behind("", (1, 2, 3)) == (3, [4])
    assert known.behind("", (9, 2, 3)) == (3, [5])
    assert known.behind("", (7, 2, 3)) == (2, [4, 5])
    assert known.behind("", (2, 3)) == (2, [4, 5])
    assert known.behind("", (3, 2)) == (0, [])


def test_what_follows_again_moves_up_and_the_last_gives_way() -> None:
    known = phrases([1, 2, 3], [1, 2, 4], [1, 2, 4])
    assert known.behind("", (1, 2)) == (2, [4, 3])
    known.learn("", [1, 2, 4])
    assert known.behind("", (1, 2)) == (2, [4, 3])
    for token in (5, 6):
        known.learn("", [1, 2, token])
    assert known.behind("", (1, 2)) == (2, [4, 3, 6])


def test_tenants_do_not_share_phrases() -> None:
    known = phrases([1, 2, 3, 4], salt="one")
    assert known.behind("one", (1, 2, 3)) == (3, [4])
    assert known.behind("two", (1, 2, 3)) == (0, [])


@pytest.mark.parametrize("text", [[], [1], [1, 2]])
def test_a_short_text_teaches_nothing(text: list[int]) -> None:
    known = phrases(text)
    assert known.behind("", tuple(text)) == (0, [])


def test_a_phrase_that_proves_right_is_trusted_more() -> None:
    known = phrases([1, 2, 1, 2, 1, 2])
    guesser = PhraseGuesser(known, "", [1, 2])
    (before,) = guesser.guesses(guesser.root(), 0.0)
    for token in (1, 2) * 10:
        guesser.extend([token])
    (after,) = guesser.guesses(guesser.root(), 0.0)
    assert (before.token, after.token) == (1, 1)
    assert after.chance > before.chance
    (then,) = guesser.guesses(guesser.follow(guesser.root(), 1), 0.0)
    assert then.token == 2


@pytest.mark.parametrize(("salt", "is_guessed"), [("", True), ("another tenant", False)])
def test_what_was_said_once_is_guessed_for_the_same_tenant(
    make_engine: MakeEngine, salt: str, is_guessed: bool
) -> None:
    client = Client(make_engine())
    options = {"strategy": "lookahead", "options": ONLY_PHRASES}
    first = client.ask(asking(max_tokens=30, **options))
    client.finish()
    second = client.ask(asking(max_tokens=30, cache_salt=salt, **options))
    client.finish()
    assert client.answer(second).tokens == client.answer(first).tokens
    assert (client.answer(second).steps < client.answer(first).steps / 2) == is_guessed
