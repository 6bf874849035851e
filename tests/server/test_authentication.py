"""With API keys configured, only the probes are open."""

import hashlib
import hmac
from collections.abc import AsyncIterator

import httpx
import pytest
from asking import body, error_of
from conftest import Build, connect
from fastapi.routing import APIRoute

from server import probes, routes
from server.metrics import Metrics
from server.middleware import OPEN_PATHS

KEYS = ("first-key", "second-key")


@pytest.fixture
async def guarded(build: Build) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(build(api_keys=KEYS)) as client:
        yield client


async def test_every_route_but_the_probes_is_guarded(guarded: httpx.AsyncClient) -> None:
    defined = (*probes.router.routes, *routes.router.routes)
    endpoints = [route for route in defined if isinstance(route, APIRoute)]
    assert len(endpoints) == 10
    for route in endpoints:
        path = route.path.replace("{name:path}", "x")
        for method in route.methods or ():
            status = (await guarded.request(method, path)).status_code
            assert (status == 200) if path in OPEN_PATHS else (status == 401), path


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/nothing", "//v1/models", "/v1/models/", "/V1/models", "/v1/../v1/models"),
        *("/health/", "/%2e%2e/v1/models", "/health/../v1/models", "/v1/models?key=first-key"),
    ],
)
async def test_no_spelling_of_a_path_is_open(guarded: httpx.AsyncClient, path: str) -> None:
    response = await guarded.get(f"http://test{path}")
    assert response.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer")],
        [("authorization", "first-key")],
        [("authorization", "Basic first-key")],
        [("authorization", "Bearer first-key ")],
        [("authorization", "Bearer first-key\0")],
        [("authorization", "Bearer first-key"), ("authorization", "Bearer second-key")],
        [("x-api-key", "first-key")],
    ],
)
async def test_wrong_credentials_are_refused(
    guarded: httpx.AsyncClient, headers: list[tuple[str, str]]
) -> None:
    response = await guarded.get("/v1/models", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert error_of(response)["code"] == "invalid_api_key"


@pytest.mark.parametrize("key", KEYS)
async def test_every_key_opens(guarded: httpx.AsyncClient, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"}
    response = await guarded.post("/v1/chat/completions", json=body(), headers=headers)
    assert response.status_code == 200


async def test_the_body_is_not_read_without_a_key(guarded: httpx.AsyncClient) -> None:
    async def never_read() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    response = await guarded.post("/v1/completions", content=never_read())
    assert response.status_code == 401


async def test_a_host_header_does_not_open_a_path(guarded: httpx.AsyncClient) -> None:
    response = await guarded.get("/v1/models", headers={"host": "test/health?x="})
    assert response.status_code == 401


async def test_keys_are_not_shown(guarded: httpx.AsyncClient, metrics: Metrics) -> None:
    response = await guarded.get("/v1/models", headers={"authorization": "Bearer my-secret"})
    assert "my-secret" not in response.text
    assert b"my-secret" not in metrics.render()
    assert b'stride_requests_rejected_total{reason="auth"} 1.0' in metrics.render()


async def test_all_keys_are_compared_by_their_hashes_in_constant_time(
    guarded: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noting(offered: bytes, known: bytes) -> bool:
        compared.append((offered, known))
        return compare(offered, known)

    monkeypatch.setattr("hmac.compare_digest", noting)
    headers = {"authorization": "Bearer first-key"}
    assert (await guarded.get("/v1/models", headers=headers)).status_code == 200
    first, second = (hashlib.sha256(key.encode()).digest() for key in KEYS)
    assert compared == [(first, first), (first, second)]
