"""Every command on the front page does what it says."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from server_process import ServerProcess

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def pointed_at(server: ServerProcess, code: str) -> str:
    """The code, asking this server instead of the one on the usual port."""
    assert "http://127.0.0.1:8000" in code
    return code.replace("http://127.0.0.1:8000", server.url)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


CURLS = [block for block in blocks("sh") if block.startswith("curl")]


def answered(server: ServerProcess, curl: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run("bash", "-c", pointed_at(server, curl)))
    return answer


def test_the_first_curl_command_gets_an_answer(real_server: ServerProcess) -> None:
    answer = answered(real_server, CURLS[0])
    assert "gravity" in answer["choices"][0]["message"]["content"].lower()
    (shown,) = blocks("json")
    assert set(answer["decoding"]) == set(json.loads(shown))


@pytest.mark.parametrize("curl", CURLS[1:], ids=["documents", "prediction"])
def test_the_curl_commands_with_text_to_copy_save_steps(
    real_server: ServerProcess, curl: str
) -> None:
    decoding = answered(real_server, curl)["decoding"]
    assert decoding["strategy"] == "reference"
    assert decoding["steps_saved"] > decoding["model_steps"] / 2


def test_the_first_python_example_streams_an_answer(real_server: ServerProcess) -> None:
    answer = run(sys.executable, "-c", pointed_at(real_server, blocks("python")[0]))
    assert len(answer.split()) > 10


def test_four_requests_are_answered_by_the_four_strategies_shown(
    real_server: ServerProcess,
) -> None:
    _, example = blocks("python")
    (shown,) = blocks("text")
    printed = run(sys.executable, "-c", pointed_at(real_server, example))
    assert sorted(printed.splitlines()) == sorted(shown.splitlines())


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert targets == {"serve", "test", "bench"}
    assert targets <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("line", re.findall(r"^\.venv/bin/(stride .*)$", README, re.MULTILINE))
def test_the_options_exist_and_name_real_files(line: str) -> None:
    words = line.split("#")[0].split()
    offered = run(sys.executable, "-m", "server", *words[1:2], "--help")
    for word in words:
        assert not word.startswith("--") or word in offered
        assert not word.startswith("configs/") or tomllib.loads((ROOT / word).read_text())
