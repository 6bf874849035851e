"""The client that asks for too much counts what was refused, and nothing else."""

from itertools import count
from types import SimpleNamespace

import pytest
from test_keeping import WHOLE, serving

from benchmarks import refusals

TAKEN = WHOLE.replace(b"429", b"200")
LOST = WHOLE.replace(b"429", b"503")


async def test_only_refusals_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    a_second_a_look = SimpleNamespace(monotonic=count().__next__)
    monkeypatch.setattr(refusals, "time", a_second_a_look)
    monkeypatch.setattr(refusals, "_SECONDS_BETWEEN", 0)
    async with serving(WHOLE, TAKEN, LOST, WHOLE, TAKEN) as connection:
        found = await refusals.refused(connection, "tiny", seconds=6)
    assert len(found) == 2
    assert min(found) > 0
