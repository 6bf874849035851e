"""What several tests need: the real default model, and a server that serves it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from server_process import ServerProcess, running_server

from decoding.models import DEFAULT_MODEL, progress_on, resolve
from decoding.options import default_cache_dir


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The directory of the default model, in the cache that `stride serve` uses too."""
    progress = progress_on(Console(file=sys.__stderr__))
    return resolve(DEFAULT_MODEL, cache=default_cache_dir(), progress=progress).directory


@pytest.fixture(scope="session")
def real_server(
    default_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """`stride serve` with the default model, as a user starts it.

    Without the history: what one test asked must not decide how the next one's answer is decoded.
    """
    with running_server(tmp_path_factory.mktemp("server") / "log", "--history", "0") as server:
        server.wait_until_ready()
        yield server
        assert "Traceback" not in server.log
