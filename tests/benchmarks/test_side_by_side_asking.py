"""What is asked side by side: the same of everyone, in the words that each of them takes."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.conversations import Conversation, Document
from benchmarks.side_by_side import ways
from benchmarks.side_by_side.asking import asking
from benchmarks.side_by_side.run import ALONE, turns
from benchmarks.side_by_side.sessions import (
    AGAIN,
    FIRST,
    LIST,
    PREDICTED,
    REWORDED,
    SHORT,
    Size,
    given,
    own,
)

WORKLOAD = own(Size())
EVERYONE = ways.all_ways({}, is_short=False)
MESSAGES = [{"role": "user", "content": "When?"}]


def test_every_kind_lasts_for_the_rounds_of_a_full_run() -> None:
    assert min(map(len, WORKLOAD.kinds.values())) >= 4
    for number in range(4):
        assert len(WORKLOAD.alone(number)) == len(WORKLOAD.kinds)


def test_nobody_is_asked_the_same_twice_alone() -> None:
    sessions = [each for number in range(6) for each in WORKLOAD.alone(number)]
    asked = Counter(c.turns for each in sessions for c in each.conversations if c.category != AGAIN)
    assert max(asked.values()) == 1


def test_list_questions_of_a_round_are_of_another_kind_each_time() -> None:
    topics = [each.conversations[0].turns[0] for each in WORKLOAD.kinds[LIST]]
    assert len(set(topics)) == 36


def test_a_question_comes_again_and_in_other_words() -> None:
    (first, again, reworded) = WORKLOAD.kinds[AGAIN][0].conversations
    assert [each.category for each in (first, again, reworded)] == [FIRST, AGAIN, REWORDED]
    assert first.turns == again.turns != reworded.turns


def test_a_load_mixes_all_kinds_and_opens_every_conversation_differently() -> None:
    loads = [*WORKLOAD.loaded(16, 0), *WORKLOAD.loaded(16, 1), *WORKLOAD.loaded(4, 0)]
    assert len({each.system for each in loads}) == len(loads) == 32 + 32 + 8
    first = {c.category for each in loads[:32] for c in each.conversations}
    assert first == set(WORKLOAD.categories)


def test_anybodys_prompts_are_asked_by_their_own_categories(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"category": "a", "turns": ["1"]}\n{"category": "b", "turns": ["2", "3"]}\n')
    workload = given([path], SHORT)
    assert workload.categories == ["a", "b"]
    assert [each.name for each in workload.alone(0)] == ["a 1", "b 1"]
    assert workload.alone(1) == []


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(ValueError, match="no conversations"):
        given([tmp_path / "none.jsonl"], SHORT)


# --- turns ---


def test_all_are_asked_the_same_right_after_each_other_and_begin_in_turn() -> None:
    planned = [turn for turn in turns(WORKLOAD, EVERYONE, 0) if turn.streams == ALONE]
    by_place = [[turn for turn in planned if turn.place == place] for place in range(3)]
    assert all(len({turn.sessions for turn in together}) == 1 for together in by_place)
    assert len({together[0].way for together in by_place}) == 3


def test_points_are_asked_for_lists_alone_and_loads_go_to_those_who_take_them() -> None:
    planned = list(turns(WORKLOAD, EVERYONE, 0))
    points = [turn for turn in planned if turn.way in (ways.POINTS, ways.SKELETON)]
    assert {turn.sessions[0].conversations[0].category for turn in points} == {LIST}
    loaded = {turn.way for turn in planned if turn.streams > ALONE}
    assert not loaded & {ways.SERVE, ways.LOOKUP, ways.POINTS, ways.SKELETON}
    assert {ways.AUTO, ways.LLAMA, ways.BATCHING} <= loaded


def test_ways_of_stride_never_share_a_server_that_learns() -> None:
    assert len({way.server for way in ways.OWN}) == len(ways.OWN)


def test_a_url_joins_with_the_fields_of_openai_alone() -> None:
    (way,) = (way for way in ways.all_ways({"vLLM": "http://gpu:8000/v1"}, is_short=True)[-1:])
    assert way.name == "vLLM"
    assert set(way.fields) == {"temperature", "stream_options"}


# --- bodies ---


def test_documents_stand_in_the_prompt_where_a_server_takes_none() -> None:
    conversation = Conversation("", ("When?",), (Document("Harbour", "Dug in 1841."),))
    assert asking(ways.AUTO, conversation, MESSAGES) == {
        "messages": MESSAGES,
        "documents": [{"title": "Harbour", "text": "Dug in 1841."}],
    }
    (message,) = asking(ways.LLAMA, conversation, MESSAGES)["messages"]
    assert message["content"] == "[1] Harbour\nDug in 1841.\n\nWhen?"


def test_a_prediction_goes_to_those_who_take_one() -> None:
    conversation = WORKLOAD.kinds[PREDICTED][0].conversations[0]
    assert "prediction" in asking(ways.AUTO, conversation, MESSAGES)
    assert "prediction" not in asking(ways.SERVE, conversation, MESSAGES)
