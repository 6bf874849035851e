"""The servers: started here and frozen while others have the turn, or found running elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from benchmarks.contestants import LlamaCppServer, StrideServer, TransformersServer
from benchmarks.processes import ContestantFailed
from benchmarks.side_by_side import ways
from benchmarks.side_by_side.asking import Reached
from benchmarks.side_by_side.ways import Way
from benchmarks.streaming import Address
from decoding.models import Progress


class Server(Reached, Protocol):
    """One that can be started, and frozen whenever it is not its turn."""

    name: str

    def start(self) -> None:
        """Make it ready, then freeze. Raises ContestantFailed."""

    def stop(self) -> None:
        """Give everything back."""

    def thaw(self) -> None:
        """Begin a turn."""

    def freeze(self) -> None:
        """End a turn."""


class RunningServer:
    """A server that somebody else runs; it cannot be frozen."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.model = ""
        self._url = url.rstrip("/")
        parts = urlsplit(self._url)
        encrypted = parts.scheme == "https"
        port = parts.port or (443 if encrypted else 80)
        self.address = Address(parts.hostname or "", port, parts.path, encrypted)

    def start(self) -> None:
        """Ask which model it serves. Raises ContestantFailed."""
        try:
            answer = httpx.get(f"{self._url}/models", timeout=10).raise_for_status()
            self.model = str(answer.json()["data"][0]["id"])
        except (httpx.HTTPError, ValueError, LookupError) as error:
            raise ContestantFailed(f"{self._url}/models: {error}") from error

    def stop(self) -> None:
        """It goes on."""

    def thaw(self) -> None:
        """It runs."""

    def freeze(self) -> None:
        """It goes on running."""


def servers(
    asked: Sequence[Way],
    directory: Path,
    cache: Path,
    urls: Mapping[str, str],
    progress: Progress,
) -> dict[str, Server]:
    """Those that the ways need, by name."""
    everyone: dict[str, Server] = {
        ways.LLAMA.server: LlamaCppServer(cache, progress, ways.LLAMA.server, remembers=True),
        ways.LLAMA_NGRAMS.server: LlamaCppServer(
            cache, progress, ways.LLAMA_NGRAMS.server, speculation=ways.NGRAMS, remembers=True
        ),
        ways.SERVE.server: TransformersServer(
            directory, ways.SERVE.server, continuous_batching=False
        ),
        ways.BATCHING.server: TransformersServer(directory, ways.BATCHING.server),
        **{way.server: StrideServer(way.server, directory) for way in ways.OWN},
        **{name: RunningServer(name, url) for name, url in urls.items()},
    }
    return {way.server: everyone[way.server] for way in asked}
