"""The line of JSON that a request leaves in the log."""

import json
import logging

import httpx
import pytest
from asking import ask, body
from conftest import Build
from fakes import MODEL, FakeEngine, dying


@pytest.fixture(autouse=True)
def _listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="stride.request")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    records = [each for each in caplog.records if each.name == "stride.request"]
    return [json.loads(record.getMessage()) for record in records]


async def test_a_request_leaves_one_line_that_says_how_it_went(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await ask(http, deadline=30)
    (line,) = lines(caplog)
    assert line["request_id"] == response.headers["x-request-id"]
    assert line["id"] == response.json()["id"]
    assert (line["method"], line["path"]) == ("POST", "/v1/chat/completions")
    assert (line["status"], line["model"]) == (200, MODEL)
    assert (line["strategy"], line["cause"]) == ("lookahead", "open")
    assert line["reason"] == "nothing is known that the answer would repeat"
    assert (line["completion_tokens"], line["model_steps"], line["steps_saved"]) == (11, 2, 9)
    assert line["finish_reason"] == "stop"


async def test_a_stream_leaves_its_line_at_its_end(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(http, stream=True)
    (line,) = lines(caplog)
    assert line["completion_tokens"] == 11


async def test_nothing_that_was_said_is_logged(
    build: Build, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.script = dying("secret answer")
    transport = httpx.ASGITransport(build(api_keys=["secret key"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://stride") as http:
        messages = [{"role": "user", "content": "secret question"}]
        headers = {"authorization": "Bearer secret key"}
        await http.post(
            "/v1/chat/completions", json=body(messages=messages, user="secret"), headers=headers
        )
        await http.post("/v1/chat/completions", content="{secret", headers=headers)
    assert len(lines(caplog)) == 2
    assert "secret" not in caplog.text


async def test_a_refused_request_has_a_line_without_a_strategy(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(http, temperature=9)
    (line,) = lines(caplog)
    assert line["status"] == 400
    assert "strategy" not in line


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_leave_none(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    await http.get(path)
    assert lines(caplog) == []
