"""The docs cannot drift: what they name exists, and what exists is named."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def defined_in(file: Path) -> set[str]:
    """Functions, classes and methods (as Class.method) of a file."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            members = (
                n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            )
            names |= {f"{node.name}.{member.name}" for member in members}
    return names


@pytest.mark.parametrize(
    ("path", "name"),
    sorted(set(re.findall(r"`((?:decoding|server)/[\w/]+\.py):([\w.]+)`", ARCHITECTURE))),
)
def test_every_function_of_a_requests_life_exists(path: str, name: str) -> None:
    assert name in defined_in(ROOT / path)


@pytest.mark.parametrize("package", ["decoding", "server", "server/upstream"])
def test_every_module_has_its_place_in_the_architecture(package: str) -> None:
    modules = {file.name for file in (ROOT / package).glob("*.py")} - {"__init__.py", "__main__.py"}
    assert modules <= set(re.findall(r"`(\w+\.py)`", ARCHITECTURE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_named_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:decoding|server|configs|tests|benchmarks|docs)/[\w./]+\.\w+)",
        page.read_text("utf-8"),
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


# --- the page of reliability ---

RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
# Whether it is in the gate, the case, what tests it
ROW = r"^\| (\*\*)?([A-HJ-M]\d+|I-\d)(?:\*\*)? \| (?:.+?) \| (.+) \|$"
CASES = re.findall(ROW, RELIABILITY, re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "name"), sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", RELIABILITY)))
)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in defined_in(ROOT / path)


def test_a_case_names_its_test_or_says_that_there_is_none() -> None:
    for _, case, by in CASES:
        assert by.startswith("not yet") or "::test_" in by, case


def test_the_counts_of_cases_are_those_of_the_tables() -> None:
    covered = [(bold, by) for bold, _, by in CASES if not by.startswith(("not yet", "in part"))]
    gate, gate_covered = (sum(bool(row[0]) for row in rows) for rows in (CASES, covered))
    assert len({case for _, case, _ in CASES}) == len(CASES)
    stated = re.findall(r"(\d+) of the (\d+)", RELIABILITY)
    assert [tuple(map(int, each)) for each in stated] == [
        (len(covered), len(CASES)),
        (gate_covered, gate),
    ]
