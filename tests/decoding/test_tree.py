"""How guessers share one tree: who is asked, and what is told from one and the next."""

from collections.abc import Iterable

from decoding.tree import Guess, grow


class Fixed:
    """Guesses the same at the root each time, and counts how often it was asked."""

    def __init__(self, *guesses: tuple[int, float]) -> None:
        self._guesses = [Guess(token, chance, "fixed") for token, chance in guesses]
        self.asked = 0

    def root(self) -> str:
        return "root"

    def guesses(self, state: str, least_chance: float) -> Iterable[Guess]:
        self.asked += 1
        return self._guesses

    def follow(self, state: str, token: int) -> None:
        return None


def drafted(*guessers: Fixed) -> dict[int, float]:
    draft = grow(guessers, nodes=8, least_chance=0.1)
    return dict(zip(draft.tokens, draft.chances, strict=True))


def test_behind_one_that_is_sure_nobody_is_asked() -> None:
    sure, other = Fixed((1, 0.7), (2, 0.8)), Fixed((3, 0.9))
    assert set(drafted(sure, other)) == {1, 2}
    assert other.asked == 0


def test_two_that_agree_are_no_surer_than_one() -> None:
    """What they guess is the same token: if it is wrong, it is wrong of both."""
    third = Fixed((2, 0.9))  # which leaves too little for what they say
    assert drafted(Fixed((1, 0.7)), Fixed((1, 0.7)), third) == {2: 0.9}
