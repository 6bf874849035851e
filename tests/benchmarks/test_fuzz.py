"""What the fuzzers hold answers and readers to."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz.bodies import Sent, requests
from benchmarks.fuzz.contract import CHAT, COMPLETIONS, TOKENIZE, document, fault_in
from benchmarks.fuzz.decoders import (
    BODY_BYTES,
    FRAMES,
    STREAMED,
    Streamed,
    UpstreamReader,
    feed,
    read_body,
    read_frames,
)
from server.errors import invalid

JSON, EVENTS = "application/json", "text/event-stream; charset=utf-8"
ERROR = json.dumps(invalid("no").body()).encode()


@pytest.mark.parametrize(
    ("path", "status", "kind", "body"),
    [
        (CHAT, 200, JSON, b"{}"),
        (CHAT, 400, JSON, ERROR),
        (CHAT, 200, EVENTS, b"data: {}\n\ndata: [DONE]\n\n"),
        (CHAT, 200, EVENTS, b"data: {}\n\ndata: " + ERROR + b"\n\n"),
    ],
)
def test_what_is_promised_is_no_fault(path: str, status: int, kind: str, body: bytes) -> None:
    assert fault_in(path, status, kind, body) == ""


@pytest.mark.parametrize(
    ("path", "status", "kind", "body"),
    [
        (CHAT, 500, JSON, ERROR),
        (TOKENIZE, 429, JSON, ERROR),
        (CHAT, 400, JSON, b'{"detail": []}'),
        (CHAT, 400, JSON, b'{"error": {"message": "no"}}'),
        (CHAT, 400, JSON, json.dumps(invalid("x" * 2000).body()).encode()),
        (CHAT, 400, "text/plain", ERROR),
        (COMPLETIONS, 200, EVENTS, b"data: {}\n\n"),
        (COMPLETIONS, 200, EVENTS, b"data: x\n\ndata: [DONE]\n\n"),
    ],
)
def test_anything_else_is(path: str, status: int, kind: str, body: bytes) -> None:
    assert fault_in(path, status, kind, body) != ""


def test_the_document_has_every_endpoint_and_finds_all_it_refers_to() -> None:
    made = document("the-model")
    assert made["components"]["schemas"]["ChatBody"]["properties"]["model"] == {
        "enum": ["the-model"]
    }
    assert {CHAT, COMPLETIONS, TOKENIZE} <= made["paths"].keys()
    named = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    assert set(_references(made)) <= named


def _references(part: object) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [each for value in part.values() for each in _references(value)]
    return [each for value in part for each in _references(value)] if isinstance(part, list) else []


@given(requests("m"))
def test_every_body_can_be_sent(sent: Sent) -> None:
    assert json.dumps(sent.body)


def test_a_reader_that_fails_is_told_with_what_it_was_given() -> None:
    def check(value: int) -> None:
        assert value < 1000

    found = feed("numbers", st.integers(), check, 10)
    assert found.name == "numbers"
    assert "1000" in found.fault


# A few inputs here, a minute of them by `python -m benchmarks.fuzz`.


@given(st.tuples(FRAMES, st.integers(0)))
def test_a_reader_of_frames_fails_only_as_it_says(sent: tuple[bytes, int]) -> None:
    read_frames(sent)


@given(BODY_BYTES)
def test_a_reader_of_bodies_fails_only_as_it_says(sent: bytes) -> None:
    read_body(sent)


def test_an_upstream_may_say_anything() -> None:
    reader = UpstreamReader()

    @given(STREAMED)
    def read(said: Streamed) -> None:
        reader.read(said)

    read()
    reader.close()
