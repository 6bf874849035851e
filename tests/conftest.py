"""What several tests need: the real default model, fetched and converted once for all of them."""

import sys
from pathlib import Path

import pytest
from rich.console import Console

from decoding.models import DEFAULT_MODEL, progress_on, resolve
from server.settings import default_cache_dir


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The directory of the default model, in the cache that `stride serve` uses too."""
    progress = progress_on(Console(file=sys.__stderr__))
    return resolve(DEFAULT_MODEL, cache=default_cache_dir(), progress=progress).directory
