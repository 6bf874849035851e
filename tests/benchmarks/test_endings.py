"""How an answer under fire is judged."""

import pytest

from benchmarks.endings import end_of_stream


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('data: {"choices":[]}\n\ndata: [DONE]\n\n', "answered"),
        ('data: {"choices":[]}\n\ndata: {"error":{"code":"engine_died"}}\n\n', "error event"),
        ('data: {"choices":[]}\n\n', "broken off"),
        ("", "broken off"),
    ],
)
def test_a_stream_is_judged_by_its_end(text: str, outcome: str) -> None:
    assert end_of_stream(text) == outcome
