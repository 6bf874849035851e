"""The page about lookahead: loops count nowhere but in their row, losses are called so."""

from benchmarks.answering import Answer
from benchmarks.continuous import Load, Served
from benchmarks.lookahead_page import page, targets
from benchmarks.open_text import ALONE, JACOBI, LOOKAHEAD, PLAIN, SOURCES, Batch, Findings, Question
from benchmarks.replay import Replay
from decoding.request import SourceCounts

TOKENS = tuple(range(100))


def answer(forwards: int, seconds: float, source: str = "prompt") -> Answer:
    counts = {source: SourceCounts(forwards, 2 * forwards, 100 - forwards)}
    return Answer(TOKENS, forwards, 2 * forwards, counts, seconds, seconds)


def question(category: str, *, is_loop: bool = False) -> Question:
    return Question(category, (1, 2), TOKENS, is_loop, Replay(100, 80, 100))


def load(tokens_per_second: float, seconds: float) -> Load:
    return Load(
        seconds=1.0,
        steps=10,
        tokens=int(tokens_per_second),
        drafting_steps=8,
        drafting_seconds=0.8,
        drafting_guesses=0.02,
        guessing_seconds=0.025,
        served={0: Served("chat", TOKENS, seconds), 1: Served("code", TOKENS, seconds)},
    )


def findings(plain_seconds: float = 2.0) -> Findings:
    questions = [question("chat"), question("code"), question("code", is_loop=True)]
    normal = {
        PLAIN: answer(100, plain_seconds),
        LOOKAHEAD: answer(50, 1.0),
        JACOBI: answer(100, 2.0, "jacobi"),
    }
    looping = {**normal, LOOKAHEAD: answer(4, 0.01)}
    assert set(normal) == set(ALONE)
    return Findings(
        questions,
        alone=[[normal, normal, looping]] * 2,
        sources={way: [answer(80, 1.5)] * 3 for way in SOURCES},
        batches=[Batch(16, load(400, 2.0), load(500, 1.6))],
    )


def measured(found: Findings) -> dict[str, float]:
    return {target.title: round(target.measured, 3) for target in targets(found)}


def test_loops_are_no_win() -> None:
    goals = measured(findings())
    assert goals["tokens per forward ÷ prompt lookup"] == 1.6
    assert goals["tokens per forward ÷ the window alone"] == 1.6
    assert goals["wall clock, all"] == goals["wall clock, slowest category"] == 2.0
    assert "| *loops* | 1 " in page(findings())


def test_batches_have_goals_of_their_own() -> None:
    goals = measured(findings())
    assert goals["16 streams, tokens per second"] == 1.25
    assert goals["16 streams, slowest category"] == 1.25
    assert goals["16 streams, 5 % ÷ share of step time spent on guessing"] == 2.0


def test_a_loss_is_called_a_miss() -> None:
    slow = page(findings(plain_seconds=0.9))
    (row,) = (line for line in slow.splitlines() if line.startswith("| wall clock, all"))
    assert "0.90" in row
    assert "**missed**" in row


def test_jacobis_iterations_are_told() -> None:
    assert "16.0 iterations per block of 16" in page(findings())
