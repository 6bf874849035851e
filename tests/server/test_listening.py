"""How the server keeps connections."""

import httpx
from conftest import Build

from server.listening import Server


class Answering:
    ready = True

    def drain(self) -> None: ...

    def close(self) -> None: ...


def test_idle_connections_are_kept_for_longer_than_clients_keep_them(build: Build) -> None:
    """Closed at the same time by both, one would be asked on a connection that just ends."""
    kept_by_clients = httpx.Limits().keepalive_expiry
    assert kept_by_clients is not None
    assert Server(build(), Answering(), 0).config.timeout_keep_alive > kept_by_clients
