"""The cache of prepared models: one directory each, which either is whole or does not exist."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from decoding.models.progress import Progress

# What a prepared directory holds at least.
WHOLE = ("config.json", "model.safetensors", "tokenizer.json")

Build = Callable[[Path, Path], None]
"""Fills its first directory with a model, using the second one for anything passing."""


def prepared(directory: Path, build: Build, progress: Progress) -> Path:
    """Return ``directory``, filled by ``build`` first unless an earlier start did that.

    Work happens in a sibling directory that is renamed at the end, under a lock that the kernel
    drops with its process: an interrupted start leaves nothing that looks ready, and of two
    processes starting together one builds while the other waits.
    """
    if is_whole(directory):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(sibling(directory, "lock"), progress):
        if not is_whole(directory):
            remove_leftovers(directory)
            build_beside(directory, build)
    return directory


def is_whole(directory: Path) -> bool:
    """Whether the directory holds everything a model needs."""
    return all((directory / name).is_file() for name in WHOLE)


def build_beside(directory: Path, build: Build) -> None:
    """Build in a temporary sibling, then rename."""
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as beside:
        model, scratch = Path(beside, "model"), Path(beside, "scratch")
        model.mkdir()
        scratch.mkdir()
        build(model, scratch)
        model.rename(directory)


def remove_leftovers(directory: Path) -> None:
    """Delete what interrupted starts left behind. Only for the holder of the lock."""
    lock = sibling(directory, "lock")
    leftovers = [path for path in directory.parent.glob(f".{directory.name}.*") if path != lock]
    for path in [directory, *leftovers]:
        if path.exists():
            shutil.rmtree(path)


def sibling(directory: Path, suffix: str) -> Path:
    """Name a hidden neighbour of ``directory``."""
    return directory.with_name(f".{directory.name}.{suffix}")


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold an exclusive lock on ``path``, telling the user when that means waiting."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note("Another process is preparing this model; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
