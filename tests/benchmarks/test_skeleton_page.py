"""The page about skeleton-of-thought: what fell back counts, losses are called so."""

from collections import Counter
from typing import Any

import pytest

from benchmarks.chatting import ChatAnswer, read_answer
from benchmarks.conversations import read
from benchmarks.processes import ContestantFailed
from benchmarks.router.questions import own
from benchmarks.served_load import ServedLoad
from benchmarks.skeleton import WORKLOAD, some_of, turned
from benchmarks.skeleton_findings import (
    EQUAL,
    LOSSLESS,
    PLAIN,
    SKELETON,
    Answers,
    ListFindings,
    ListQuestion,
    ServedBatch,
)
from benchmarks.skeleton_page import page, targets
from server.wordings import Wordings

POINTS = """\
1. Light: Curtains keep a room dark all night long.
2. Noise: A fan or a pair of plugs
3. Air: Open a window before you go to bed."""
BRANCHES = {"count": 4, "prompt_tokens": 500, "shared_prompt_tokens": 380, "hidden_tokens": 20}


def answer(seconds: float, tokens: int, steps: int, **decoding: Any) -> ChatAnswer:
    text = POINTS if "branches" in decoding else "Dark rooms help."
    report = {"model_steps": steps, "strategy": "lookahead", **decoding}
    return ChatAnswer(text, tokens, seconds / 4, seconds, ((seconds, len(text)),), report)


def answers(skeleton_seconds: float, *, falls_back: bool = False) -> Answers:
    fallback: dict[str, Any] = {"fallback": {"reason": "no outline"}} if falls_back else {}
    return {
        PLAIN: answer(8.0, 400, 400),
        LOSSLESS: answer(6.0, 400, 200),
        SKELETON: answer(skeleton_seconds, 200, 50, branches=BRANCHES, **fallback),
        EQUAL: answer(4.0, 200, 200),
    }


def load(tokens: int, strategies: list[str]) -> ServedLoad:
    found = [answer(1.0, tokens, 1, strategy=name) for name in strategies]
    return ServedLoad(1.0, found)


def findings(*, num_fallen: int = 0, upstream: bool = False) -> ListFindings:
    questions = [ListQuestion("advice", f"Question {n}?", 100, 80) for n in range(4)]
    one_round = [answers(2.0), answers(4.0), answers(4.0), answers(10.0)]
    for number in range(num_fallen):
        one_round[number] = answers(9.0, falls_back=True)
    batch = ServedBatch(16, load(100, ["autoregressive"] * 2), load(96, ["lookahead", "skeleton"]))
    return ListFindings(
        questions, [one_round] * 2, [batch], [one_round] if upstream else [], other_load=0.01
    )


def measured(found: ListFindings) -> list[float]:
    return [round(target.measured, 3) for target in targets(found)]


def test_the_goals() -> None:
    # 2 = 8 s ÷ 4 s; (380 − 80) ÷ (500 − 100); 96 ÷ 100; two of three points are whole.
    assert measured(findings()) == [2.0, 0.75, 0.96, 0.667]


def test_what_fell_back_counts_in_the_speed_and_nowhere_else() -> None:
    found = findings(num_fallen=3)
    assert measured(found) == [0.889, 0.75, 0.96, 0.667]
    lines = page(found).splitlines()
    assert any(line.startswith("| **all** ") and "| 4 " in line for line in lines)
    assert any(line.startswith("| *without those that fell back* ") for line in lines)
    assert "Why skeleton fell back: no outline (3)." in lines


def test_a_page_can_be_written_when_everything_fell_back() -> None:
    found = findings(num_fallen=4)
    assert measured(found)[1] == measured(found)[3] == 0.0
    assert "## One answer" not in page(found)


def test_losses_stand_beside_wins() -> None:
    text = page(findings())
    assert "slower than plain decoding with 1, slower than plain decoding of equal length" in text
    assert "**missed**" in text
    assert "lookahead 1, skeleton 1" in text
    assert text.count("Question ") == 5  # all in the table, one as the sample
    assert "> 2. Noise: A fan or a pair of plugs" in text
    assert "| breaks off in a sentence " in text


def test_loops_are_told_apart() -> None:
    found = findings()
    looping = found.rounds[0][0][PLAIN]._replace(text="Yes and no. " * 40)
    one_round = [{**found.rounds[0][0], PLAIN: looping}, *found.rounds[0][1:]]
    found = found._replace(rounds=[one_round])
    assert found.numbers(loops=False) == [1, 2, 3]
    (row,) = (line for line in page(found).splitlines() if line.startswith("| *and without loops*"))
    assert "| 3 " in row


def test_another_server_has_its_part_only_if_it_was_asked() -> None:
    assert "## Before another server" not in page(findings())
    assert "1.50× (1.50–1.50) as fast" in page(findings(upstream=True))


def test_a_load_counts_what_came_while_it_was_full() -> None:
    late = ChatAnswer("four", 8, 0.5, 3.0, ((1.0, 1), (2.0, 1), (3.0, 2)), {})
    early = ChatAnswer("four", 8, 0.5, 1.0, ((1.0, 4),), {})
    assert ServedLoad(2.0, [late, early]).tokens_per_second == (4 + 8) / 2


def test_ways_take_turns_and_what_belongs_together_stays_together() -> None:
    turns = [["a"], ["b"], ["c", "d"]]
    assert ["".join(turned(turns, number)) for number in range(4)] == [
        "abcd",
        "bcda",
        "cdab",
        "abcd",
    ]


def test_a_trial_takes_questions_of_all_categories() -> None:
    assert some_of(list(range(36)), 6) == [0, 6, 12, 18, 24, 30]  # type: ignore[arg-type,comparison-overlap]


def test_a_chat_stream_is_read_with_its_times() -> None:
    events = [
        (1.0, b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'),
        (2.0, b'data: {"choices": [{"delta": {"content": "ab"}}]}\n\n'),
        (3.0, b'data: {"choices": [{"delta": {"content": "c"}}]}\n\n'),
        (
            4.0,
            b'data: {"choices": [], "usage": {"completion_tokens": 3}, "decoding": {"a": 1}}\n\n',
        ),
        (5.0, b"data: [DONE]\n\n"),
    ]
    assert read_answer(events) == ChatAnswer("abc", 3, 2.0, 5.0, ((2.0, 2), (3.0, 1)), {"a": 1})


@pytest.mark.parametrize(
    "event", [b'data: {"error": "no"}\n\n', b'data: {"choices": []}\n\n'], ids=["error", "silence"]
)
def test_anything_else_is_a_failure(event: bytes) -> None:
    with pytest.raises(ContestantFailed):
        read_answer([(1.0, event)])


def test_the_questions_are_new_to_the_router_and_to_the_prompts() -> None:
    asked = [(each.category, each.turns) for each in read(WORKLOAD)]
    assert set(Counter(category for category, _ in asked).values()) == {6}
    assert all(len(turns) == 1 for _, turns in asked)
    texts = {turns[0].lower() for _, turns in asked}
    assert len(texts) == 36
    assert texts.isdisjoint(each.text.lower() for each in own("train"))
    wording = Wordings().of("What are the benefits of this?")
    assert texts.isdisjoint(example.question.lower() for example in wording.examples)
