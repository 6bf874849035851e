"""Who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import decoding
from decoding import strategies

PACKAGE = Path(decoding.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
DRAFTING = (
    "draft",
    "copying",
    "verify",
    "request",
    *(f"strategies.{name}" for name in strategies.names()),
)


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_engine_knows_nothing_of_the_server(file: Path) -> None:
    packages = {name.split(".")[0] for name in imported(file)}
    assert not packages & {"server", "fastapi", "starlette", "uvicorn"}


def test_strategies_and_their_protocol_need_no_torch() -> None:
    """A strategy is driven by hand in its tests, and the server's process loads no torch."""
    names = ", ".join(f"decoding.{name}" for name in DRAFTING)
    code = f"import sys, {names}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers"} & set(run.stdout.split())
