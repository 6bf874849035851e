"""The endpoints beside generation, and what every response has in common."""

import httpx
import pytest
from asking import ask, error_of
from conftest import Build, connect
from fakes import MODEL, FakeEngine
from fastapi import FastAPI
from openai import AsyncOpenAI


async def test_models_lists_the_names(openai: AsyncOpenAI) -> None:
    models = [model async for model in openai.models.list()]
    assert [model.id for model in models] == [MODEL, "default"]
    assert {model.owned_by for model in models} == {"stride"}


async def test_a_model_name_may_have_slashes(openai: AsyncOpenAI) -> None:
    model = await openai.models.retrieve(MODEL)
    assert model.id == MODEL
    assert model.object == "model"


async def test_a_model_that_is_not_served_is_not_found(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/models/gpt-x")
    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"


async def test_health_is_about_this_process_only(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.info, engine.ready = None, False
    assert (await http.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("loaded", "ready", "status", "reason"),
    [
        (False, False, 503, "the model is loading"),
        (True, False, 503, "the engine makes no progress"),
        (True, True, 200, None),
    ],
)
async def test_ready_is_about_the_engine(
    http: httpx.AsyncClient,
    engine: FakeEngine,
    loaded: bool,
    ready: bool,
    status: int,
    reason: str | None,
) -> None:
    engine.info = engine.info if loaded else None
    engine.ready = ready
    response = await http.get("/ready")
    assert response.status_code == status
    assert response.json().get("reason") == reason


async def test_a_draining_server_is_not_ready_and_ends_connections(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.is_draining, engine.ready = True, False
    assert (await http.get("/ready")).json() == {"status": "not ready", "reason": "draining"}
    refused = await ask(http)
    assert refused.status_code == 503
    assert error_of(refused)["code"] == "draining"
    assert refused.headers["connection"] == "close"
    assert int(refused.headers["retry-after"]) > 0


async def test_version_is_a_string(http: httpx.AsyncClient) -> None:
    assert isinstance((await http.get("/version")).json()["version"], str)


async def test_tokenize_and_detokenize_are_inverse(http: httpx.AsyncClient) -> None:
    tokenized = (await http.post("/tokenize", json={"prompt": "hé 😀"})).json()
    assert tokenized["count"] == len(tokenized["tokens"])
    assert tokenized["max_model_len"] == 200
    back = await http.post("/detokenize", json={"tokens": tokenized["tokens"], "model": MODEL})
    assert back.json() == {"prompt": "hé 😀"}


async def test_tokenize_shows_what_a_chat_sends(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await ask(http)
    messages = [{"role": "user", "content": "hi"}]
    response = await http.post("/tokenize", json={"messages": messages})
    assert response.json()["tokens"] == list(engine.request.prompt)


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/tokenize", {}, 400),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, 400),
        ("/tokenize", {"prompt": 5}, 400),
        ("/tokenize", {"prompt": "a", "model": "gpt-x"}, 404),
        ("/detokenize", {}, 400),
        ("/detokenize", {"tokens": [-1]}, 400),
        ("/detokenize", {"tokens": [2**40]}, 400),
        ("/detokenize", {"tokens": [300]}, 400),
        ("/detokenize", {"tokens": "a"}, 400),
    ],
)
async def test_tokenizing_refuses_what_it_does_not_understand(
    http: httpx.AsyncClient, path: str, content: dict[str, object], status: int
) -> None:
    response = await http.post(path, json=content)
    assert response.status_code == status
    error_of(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/completions/", 404),
        ("POST", "//v1/completions", 404),
    ],
)
async def test_unknown_paths_and_methods_have_openai_errors(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await http.request(method, f"http://test{path}")
    assert response.status_code == status
    error_of(response)


async def test_a_bug_is_an_openai_error_without_its_details(
    http: httpx.AsyncClient, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    def bug() -> None:
        raise ZeroDivisionError("a secret")

    app.add_api_route("/bug", bug)
    response = await http.get("/bug")
    assert response.status_code == 500
    error = error_of(response)
    assert error["type"] == "server_error"
    assert "a secret" not in response.text
    assert response.headers["x-request-id"] in error["message"]
    assert response.headers["x-request-id"] in caplog.text


async def test_a_bug_in_the_engine_client_is_logged_under_the_id_the_client_gets(
    http: httpx.AsyncClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.script = lambda request: iter([ZeroDivisionError("a secret")])
    for streamed in (False, True):
        response = await ask(http, stream=streamed)
        assert response.status_code == 500
        assert "a secret" not in response.text
        identity = engine.request.id.removesuffix("-0")
        assert identity in error_of(response)["message"]
        assert identity in caplog.text


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [("my-id 1", True), ("x" * 128, True), ("x" * 129, False), ("a\tb", False), ("", False)],
)
async def test_a_sane_request_id_is_kept(http: httpx.AsyncClient, sent: str, is_kept: bool) -> None:
    response = await http.get("/health", headers={"x-request-id": sent})
    assert (response.headers["x-request-id"] == sent) is is_kept


async def test_a_client_s_request_id_never_reaches_the_engine(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    http.headers["x-request-id"] = "mine"
    await ask(http)
    await ask(http)
    assert "mine" not in engine.requests[0].id
    assert engine.requests[0].id != engine.requests[1].id


async def test_the_cache_salt_separates_requests(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await ask(http, cache_salt="a")
    await ask(http)
    assert [request.cache_salt for request in engine.requests] == ["a", ""]


async def test_keys_are_tenants(build: Build, engine: FakeEngine) -> None:
    async with connect(build(api_keys=["one", "two"])) as http:
        for key in ("one", "two"):
            for salt in ("a", ""):
                http.headers["authorization"] = f"Bearer {key}"
                await ask(http, cache_salt=salt)
    salts = [request.cache_salt for request in engine.requests]
    assert len(set(salts)) == 4
    assert not any("one" in salt or "two" in salt for salt in salts)
