"""``stride info`` says what a model takes on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from decoding.report import Cost
from server.inspection import cost_table

pytestmark = pytest.mark.slow


def test_the_default_models_facts_and_costs_are_shown(default_model: Path) -> None:
    command = [sys.executable, "-m", "server", "info", "--model", str(default_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for said in ("LlamaForCausalLM", "Kernels", "KV cache", "Exactness", "1,024 cached"):
        assert said in done.stdout


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    command = [sys.executable, "-m", "server", "info", "--model", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_row_of_the_table_adds_up() -> None:
    table = cost_table(Cost(by_rows={4: 0.010}, per_key=1e-6, per_pair=1e-6))
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["4", "10.00", "11.28", "15.12"]
