"""The layouts of conversations that can be read, and the prompts kept in the repository."""

import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conversations import Conversation, Document, read
from benchmarks.processes import ROOT

COMMITTED = ROOT / "benchmarks" / "prompts" / "reference.jsonl"
FIELDS = {"category", "turns", "documents", "prediction", "prediction_from"}
LLMA_LINE = {
    "query": "where does cork come from",
    "docs": ["Cork is bark.", "Oaks grow slowly."],
    "result": {"text": " From the cork oak.", "index": 0, "logprobs": None},
}


@pytest.fixture(scope="module")
def committed() -> list[Conversation]:
    return read(COMMITTED)


def of_category(conversations: list[Conversation], *categories: str) -> list[Conversation]:
    return [c for c in conversations if c.category in categories]


def written(tmp_path: Path, *lines: dict[str, Any] | bytes) -> Path:
    path = tmp_path / "lines.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def test_a_line_may_hold_documents_and_a_prediction(tmp_path: Path) -> None:
    line = {
        "category": "quoting",
        "turns": ["Quote it.", "Again."],
        "documents": ["Plain.", {"title": "Oak", "text": "Bark."}],
        "prediction": "Plain.",
    }
    assert read(written(tmp_path, line)) == [
        Conversation(
            category="quoting",
            turns=("Quote it.", "Again."),
            documents=(Document("", "Plain."), Document("Oak", "Bark.")),
            prediction="Plain.",
        )
    ]


def test_an_answer_may_become_the_prediction(tmp_path: Path) -> None:
    line = {"category": "edit", "turns": ["Edit it."], "prediction_from": "answer"}
    assert read(written(tmp_path, line)) == [
        Conversation(category="edit", turns=("Edit it.",), prediction_from_answer=True)
    ]


def test_released_prompts_may_have_fields_of_their_own(tmp_path: Path) -> None:
    line = {"question_id": 81, "category": "writing", "turns": ["Write."], "reference": ["x"]}
    assert read(written(tmp_path, line)) == [Conversation(category="writing", turns=("Write.",))]


def test_an_llma_line_has_a_target_and_the_name_of_its_file(tmp_path: Path) -> None:
    """The target must stay as it is, with its leading space, or other tokens are forced."""
    assert read(written(tmp_path, LLMA_LINE)) == [
        Conversation(
            category="lines",
            turns=("where does cork come from",),
            documents=(Document("", "Cork is bark."), Document("", "Oaks grow slowly.")),
            target=" From the cork oak.",
        )
    ]


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    line = '{"category": "chat", "turns": ["one\u2028two"]}'.encode()
    assert read(written(tmp_path, b"", line))[0].turns == ("one\u2028two",)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"category": "chat", "turns"', "truncated"),
        (b'["chat"]', "Expected `object`"),
        (b'{"turns": ["\xff"]}', "'utf-8' codec|Invalid UTF-8"),
        ({"turns": ["Hi."]}, "category"),
        ({"category": "chat", "turns": []}, "turns"),
        ({"category": "chat", "turns": ["Hi.", " \n"]}, "turns"),
        ({"category": "chat", "turns": ["Hi."], "documents": [{"body": "x"}]}, "body"),
        ({"category": "chat", "turns": ["Hi."], "prediction_from": "file"}, "file"),
        (
            {"category": "chat", "turns": ["x"], "prediction": "y", "prediction_from": "answer"},
            "exclude each other",
        ),
        ({**LLMA_LINE, "result": {"text": ""}}, "result.text"),
        ({"query": "where does cork come from", "docs": []}, "result"),
    ],
)
def test_a_malformed_line_is_named(
    tmp_path: Path, line: dict[str, Any] | bytes, complaint: str
) -> None:
    path = written(tmp_path, {"category": "chat", "turns": ["Hi."]}, b"", line)
    with pytest.raises(ValueError, match=complaint) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")


def test_the_committed_prompts_have_the_promised_counts(committed: list[Conversation]) -> None:
    assert Counter(conversation.category for conversation in committed) == {
        "retrieval_qa": 8,
        "quoting": 6,
        "code_edit_true": 6,
        "code_edit_file": 6,
        "code_edit_wrong": 4,
        "rewrite": 6,
        "repeated_first": 6,
        "repeated": 6,
        "near_repeated": 6,
        "chat": 10,
    }


def test_no_field_of_the_committed_prompts_is_misspelt() -> None:
    """Unknown fields are passed over, so a misspelt prediction would go unnoticed."""
    for line in COMMITTED.read_text(encoding="utf-8").splitlines():
        assert set(json.loads(line)) <= FIELDS


def test_each_retrieval_question_comes_with_ten_titled_passages(
    committed: list[Conversation],
) -> None:
    for conversation in of_category(committed, "retrieval_qa"):
        assert len({document.title for document in conversation.documents}) == 10
        assert all(40 <= len(document.text.split()) <= 60 for document in conversation.documents)


def test_only_repeated_questions_are_asked_twice(committed: list[Conversation]) -> None:
    def asked(category: str) -> list[tuple[str, ...]]:
        return [conversation.turns for conversation in of_category(committed, category)]

    assert asked("repeated") == asked("repeated_first")
    assert not set(asked("near_repeated")) & set(asked("repeated"))
    others = [c.turns for c in committed if c.category != "repeated"]
    assert len(set(others)) == len(others)


def test_code_edits_differ_in_where_the_prediction_comes_from(
    committed: list[Conversation],
) -> None:
    for conversation in of_category(committed, "code_edit_true"):
        assert conversation.prediction_from_answer
    for conversation in of_category(committed, "code_edit_file"):
        assert conversation.prediction is not None
        assert conversation.prediction in conversation.turns[0]
    for conversation in of_category(committed, "code_edit_wrong"):
        assert conversation.prediction is not None
        assert conversation.prediction not in conversation.turns[0]


def test_files_to_edit_are_short_python(committed: list[Conversation]) -> None:
    edits = of_category(committed, "code_edit_true", "code_edit_file", "code_edit_wrong")
    for conversation in edits:
        code = conversation.turns[0].partition("```python\n")[2].partition("```")[0]
        ast.parse(code)
        assert 25 <= len(code.splitlines()) <= 50


def test_a_rewrite_gives_its_paragraph_first(committed: list[Conversation]) -> None:
    for conversation in of_category(committed, "rewrite"):
        paragraph = conversation.turns[0].partition("\n\n")[2]
        assert 80 <= len(paragraph.split()) <= 150
        assert len(conversation.turns) in (2, 3)
