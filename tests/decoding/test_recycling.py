"""Recycled rows: what the table keeps, and that the engine feeds it with the right rows."""

import numpy as np
import pytest
from tiny_engine import VOCABULARY, Client, MakeEngine, asking, prompt_of

from decoding.recycling import CANDIDATES, Recycler, Successors
from decoding.request import OptionValue

ONLY_RECYCLING = {"window": 0, "copying": False, "phrases": False}


def test_a_token_has_the_successors_that_were_seen_last() -> None:
    successors = Successors(10)
    assert successors.of(3) == []
    successors.update([3, 4], np.array([range(4), range(1, 5)], np.int32))
    successors.update([3], np.array([range(2, 6)], np.int32))
    assert successors.of(3) == list(range(2, 6))
    assert successors.of(4) == list(range(1, 5))


def test_a_rank_that_is_right_is_trusted_more() -> None:
    successors = Successors(20)
    successors.update(range(20), np.tile(np.arange(CANDIDATES, dtype=np.int32), (20, 1)))
    recycler = Recycler(successors, last=11)
    before = [guess.chance for guess in recycler.guesses(recycler.root(), 0.0)]
    for _ in range(20):
        recycler.extend([2])
    after = [guess.chance for guess in recycler.guesses(recycler.root(), 0.0)]
    assert after[2] > before[2]
    assert after[0] < before[0]


def test_what_was_computed_once_is_guessed_the_next_time(make_engine: MakeEngine) -> None:
    """A plain request in the same batch: its rows lie between those that are recycled."""
    client = Client(make_engine())
    options = {"strategy": "lookahead", "options": ONLY_RECYCLING}
    steps = []
    for _ in range(2):
        plain = client.ask(asking(prompt_of(5, seed=3), max_tokens=30))
        recycling = client.ask(asking(max_tokens=30, **options))
        other = client.ask(asking(prompt_of(7, seed=4), max_tokens=30))
        client.finish()
        assert client.answer(plain).steps == client.answer(other).steps == 30
        steps.append(client.answer(recycling).steps)
    assert steps[1] < steps[0]
    assert VOCABULARY > CANDIDATES


@pytest.mark.parametrize("recycling", [True, False])
def test_reference_copy_guesses_it_too_unless_told_not_to(
    make_engine: MakeEngine, recycling: bool
) -> None:
    client = Client(make_engine())
    options: dict[str, OptionValue] = {"recycling": recycling}
    for _ in range(2):
        client.ask(asking(max_tokens=30, strategy="reference", options=options))
        client.finish()
    news = [output for report in client.reports for output in report.outputs]
    assert any("recycled" in output.sources for output in news) is recycling
