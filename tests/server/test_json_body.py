"""Bytes that are not a proper JSON object are refused, and never a 500."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from asking import error_of
from conftest import Build, connect
from fakes import FakeEngine
from refusals import GOOD, JSON, MALFORMED, with_prompt

from server.limits import Limits


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize"])
@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_bodies_are_refused(
    http: httpx.AsyncClient, engine: FakeEngine, path: str, content: bytes
) -> None:
    response = await http.post(path, content=content, headers=JSON)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"
    assert not engine.requests


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD,
        with_prompt(rb'"a\u0000b"'),
        with_prompt(rb'"\ud83d\ude00"'),
        b'{"n": 99, "n": 1, "model": "tiny/model", "prompt": "hi"}',
    ],
    ids=["byte order mark", "NUL", "a surrogate pair", "a key twice, the last counts"],
)
async def test_unusual_bodies_are_understood(http: httpx.AsyncClient, content: bytes) -> None:
    response = await http.post("/v1/completions", content=content, headers=JSON)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded"])
async def test_other_media_types_are_refused(http: httpx.AsyncClient, media_type: str) -> None:
    headers = {"content-type": media_type}
    response = await http.post("/v1/completions", content=GOOD, headers=headers)
    assert response.status_code == 400
    assert "application/json" in error_of(response)["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": "application/a+json"},
    ],
)
async def test_json_media_types_are_accepted(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await http.post("/v1/completions", content=GOOD, headers=headers)
    assert response.status_code == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_read(build: Build) -> None:
    async def never_read() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with connect(build(limits=Limits(body_bytes=1000))) as http:
        headers = JSON | {"content-length": "1001"}
        response = await http.post("/v1/completions", content=never_read(), headers=headers)
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


async def test_a_chunked_body_is_refused_when_it_passes_the_limit(build: Build) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100
            yield b" " * 100

    async with connect(build(limits=Limits(body_bytes=1000))) as http:
        response = await http.post("/v1/completions", content=endless(), headers=JSON)
    assert response.status_code == 413
    assert sent <= 1200


async def test_a_body_that_does_not_arrive_times_out(build: Build) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with connect(build(limits=Limits(body_seconds=0.05))) as http:
        response = await http.post("/v1/completions", content=stalled(), headers=JSON)
    assert response.status_code == 408
    assert error_of(response)["code"] == "request_timeout"
