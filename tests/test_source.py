"""What our code never does, whatever it is sent: it neither runs it nor unpickles it."""

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parent.parent
FILES = sorted(
    file for package in ("decoding", "server") for file in (ROOT / package).rglob("*.py")
)
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "multiprocessing"}
CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "torch.load", "os.system"}
# Releases with holes that requests or models could use.
FLOORS = {"starlette": "1.0.1", "jinja2": "3.1.6", "h11": "0.16", "torch": "2.6"}


def dangers(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                named = [node.module or ""]
            yield from (name for name in named if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            if (name := ast.unparse(node.func)) in CALLS:
                yield name
            yield from (each for each in map(ast.unparse, node.keywords) if each in ARGUMENTS)
        elif isinstance(node, ast.Assert):
            yield "assert"  # python -O leaves it out


ARGUMENTS = {"shell=True", "trust_remote_code=True", "allow_pickle=True", "weights_only=False"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_unpickled_evaluated_or_left_to_an_assertion(file: Path) -> None:
    assert list(dangers(file)) == []


@pytest.mark.parametrize(
    ("code", "danger"),
    [
        ("import pickle", "pickle"),
        ("from multiprocessing.shared_memory import SharedMemory", "multiprocessing.shared_memory"),
        ("torch.load(path)", "torch.load"),
        ("eval(text)", "eval"),
        ("subprocess.run(text, shell=True)", "shell=True"),
        ("assert length < 10", "assert"),
    ],
)
def test_such_code_would_be_found(tmp_path: Path, code: str, danger: str) -> None:
    file = tmp_path / "code.py"
    file.write_text(code)
    assert list(dangers(file)) == [danger]


@pytest.mark.parametrize(("name", "least"), FLOORS.items())
def test_releases_with_known_holes_are_not_used(name: str, least: str) -> None:
    assert Version(version(name)) >= Version(least)
