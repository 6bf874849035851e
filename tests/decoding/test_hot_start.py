"""What follows each token: found by the model, kept in a file, and guessed by the first request."""

from pathlib import Path

import numpy as np
import pytest
from tiny_engine import VOCABULARY, Client, MakeEngine, asking

from decoding import hot_start as module
from decoding.engine import Engine
from decoding.hot_start import Table, hot_start, successors
from decoding.recycling import CANDIDATES, UNKNOWN, Successors
from decoding.runner import Runner

CONTEXT = (5, 9)


@pytest.fixture
def runner(make_engine: MakeEngine) -> Runner:
    return make_engine().runner


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a model's files, and any time is worth keeping."""
    monkeypatch.setattr(module, "_WORTH_KEEPING", 0.0)
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    return directory


def said_behind(make_engine: MakeEngine, token: int) -> int:
    client = Client(make_engine())
    request = client.ask(asking((*CONTEXT, token), max_tokens=1))
    client.finish()
    return client.answer(request).tokens[0]


def test_it_holds_what_the_model_says_behind_each_token(
    make_engine: MakeEngine, runner: Runner
) -> None:
    table = successors(runner, CONTEXT)
    assert table.shape == (VOCABULARY, CANDIDATES)
    for token in (0, 1, 77, VOCABULARY - 1):
        assert table[token, 0] == said_behind(make_engine, token)


def test_a_small_cache_takes_more_forwards(make_engine: MakeEngine, runner: Runner) -> None:
    cramped = make_engine(num_blocks=3).runner
    assert np.array_equal(successors(cramped, CONTEXT), successors(runner, CONTEXT))


def test_without_room_or_time_nothing_is_known(make_engine: MakeEngine, runner: Runner) -> None:
    assert (successors(make_engine(num_blocks=2).runner, range(16)) == UNKNOWN).all()
    assert (successors(runner, CONTEXT, seconds=-1.0) == UNKNOWN).all()


def test_it_is_computed_once_for_a_model(
    runner: Runner, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def counted(*_: object) -> Table:
        computed.append(1)
        return np.full((VOCABULARY, CANDIDATES), len(computed), np.int32)

    monkeypatch.setattr(module, "successors", counted)
    for _ in range(2):
        assert (hot_start(runner, CONTEXT, model, tmp_path) == 1).all()
    (model / "config.json").write_text('{"another": "model"}')
    assert (hot_start(runner, CONTEXT, model, tmp_path) == 2).all()
    assert (hot_start(runner, (1,), model, tmp_path) == 3).all()


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_damaged_file_is_written_anew(
    runner: Runner, model: Path, tmp_path: Path, content: bytes | None
) -> None:
    first = hot_start(runner, CONTEXT, model, tmp_path)
    (kept,) = (tmp_path / "successors").iterdir()
    if content is None:
        np.save(kept, np.full(first.shape, VOCABULARY, np.int32))  # tokens that do not exist
    else:
        kept.write_bytes(content)
    assert np.array_equal(hot_start(runner, CONTEXT, model, tmp_path), first)
    assert np.array_equal(np.load(kept), first)


def test_where_nothing_can_be_written_it_is_computed_again(
    runner: Runner, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "successors").write_text("a file where the folder should be")
    table = hot_start(runner, CONTEXT, model, tmp_path)
    assert (table != UNKNOWN).all()


def test_what_a_row_says_takes_the_place_of_the_start() -> None:
    start = np.tile(np.arange(CANDIDATES, dtype=np.int32), (10, 1))
    known = Successors(10, start)
    assert (known.of(3), known.was_seen(3)) == ([0, 1, 2, 3], False)
    known.update([3], np.array([[4, 5, 6, 7]], np.int32))
    assert (known.of(3), known.was_seen(3)) == ([4, 5, 6, 7], True)
    assert start[3, 0] == 0


def test_the_first_request_drafts_from_it(make_engine: MakeEngine, runner: Runner) -> None:
    def drafted(engine: Engine) -> int:
        client = Client(engine)
        options = {"copying": False, "phrases": False}
        request = client.ask(asking(max_tokens=2, strategy="lookahead", options=options))
        client.finish()
        return client.answer(request).drafted

    cold = make_engine()
    hot = Engine(runner, successors=successors(runner, CONTEXT))
    assert drafted(cold) == 0
    assert drafted(hot) > 0
