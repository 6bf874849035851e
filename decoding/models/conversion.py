"""Runs the conversion of a GGUF file in a process of its own, whose memory is gone afterwards."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from decoding.models.files import ModelError
from decoding.models.progress import Advance, Progress

# Part of the cache key: raise it when the program starts to write something else.
VERSION = 1
# -P: the current directory may hold anything, also something called decoding.
PROGRAM = (sys.executable, "-P", "-m", "decoding.models.convert")
PACKAGES = Path(__file__).parents[2]

Convert = Callable[[Path, Path, Progress], None]
"""Writes the model in a .gguf file into an existing directory."""


def convert(
    source: Path, destination: Path, progress: Progress, program: tuple[str, ...] = PROGRAM
) -> None:
    """Convert ``source`` into the directory ``destination``. Raises ModelError."""
    command = [*program, str(source), str(destination)]
    with (
        progress.stage("Converting to bfloat16", "tensors") as advance,
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=child_environment(),
        ) as process,
    ):
        try:
            error = follow(cast(IO[bytes], process.stdout), advance, progress)
            code = process.wait()
        finally:
            process.kill()
        if code:
            raise ModelError(f"cannot convert {source}: {error or last_words(code, complaints)}")


def child_environment() -> dict[str, str]:
    """The environment of the program: it finds our packages, and leaves the network alone."""
    paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def follow(reports: IO[bytes], advance: Advance, progress: Progress) -> str | None:
    """Pass on what the program reports, a JSON object a line; return the error it names."""
    error = None
    for line in reports:
        report = parsed(line)
        if "done" in report:
            advance(int(str(report["done"])), int(str(report["total"])))
        if "note" in report:
            progress.note(str(report["note"]))
        if "error" in report:
            error = str(report["error"])
    return error


def parsed(line: bytes) -> dict[str, object]:
    """Read one report; a library that prints to standard output is no report."""
    try:
        report = json.loads(line)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def last_words(code: int, complaints: IO[bytes]) -> str:
    """Say how a program ended that could not say it itself."""
    if code < 0:
        return f"the conversion was killed by signal {-code}; it may have run out of memory"
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"the conversion ended with exit code {code}"
