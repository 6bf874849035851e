"""Permits: who gets one, who does not, and that none is ever lost."""

import asyncio
import json
import time
from collections.abc import Iterable, MutableMapping
from contextlib import ExitStack
from statistics import median
from typing import Any

import httpx
import pytest
from asking import PATHS, ask, body, error_of, stream
from conftest import Build
from fakes import FakeEngine, dying, engine_info, failing, hanging
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from decoding.report import Cost
from server.admission import Admission, Caps, estimated_tokens
from server.errors import ApiError
from server.metrics import Metrics


def admission(rate: float | None = 100.0, **caps: int) -> Admission:
    return Admission(
        Caps(**{"answers": 4, "per_key": 4, "first_token_seconds": 10, **caps}), lambda: rate
    )


def refusal(admission: Admission, tenant: str = "", answers: int = 1, tokens: int = 0) -> ApiError:
    with pytest.raises(ApiError) as raised, admission.permit(tenant, answers, tokens):
        pass
    return raised.value


def test_answers_count_not_requests() -> None:
    gate = admission()
    with gate.permit("", 3, 0):
        assert (gate.requests, gate.answers) == (1, 3)
        error = refusal(gate, answers=2)
        assert (error.status, error.code, error.rejection) == (429, "queue_full", "queue_full")
        with gate.permit("", 1, 0):
            assert gate.answers == 4
    assert (gate.requests, gate.answers) == (0, 0)


def test_a_key_has_a_limit_of_its_own() -> None:
    gate = admission(per_key=2)
    with gate.permit("one", 2, 0):
        assert "for this API key" in refusal(gate, "one").message
        with gate.permit("other", 2, 0):
            pass


def test_prompts_that_wait_must_be_read_in_time() -> None:
    gate = admission()
    with gate.permit("", 1, 900) as first:
        error = refusal(gate, tokens=400)
        assert (error.status, error.code) == (429, "token_backlog")
        assert error.headers == {"retry-after": "3"}
        gate.weigh(first, 0)  # its answer has begun
        with gate.permit("", 1, 400):
            assert gate.waiting_tokens == 400
    assert gate.waiting_tokens == 0


def test_a_prompt_that_nothing_waits_before_is_taken_however_long() -> None:
    with admission().permit("", 1, 10**6):
        pass


def test_one_long_prompt_weighs_as_much_as_many_short_ones() -> None:
    gate = admission(answers=100, per_key=100)
    with ExitStack() as held:
        for _ in range(10):
            held.enter_context(gate.permit("", 1, 100))
        assert refusal(gate, tokens=100).code == "token_backlog"


def test_without_a_measured_rate_only_answers_are_limited() -> None:
    gate = admission(rate=None)
    with gate.permit("", 1, 10**6), gate.permit("", 1, 10**6):
        pass


def test_clients_are_asked_to_wait_a_minute_at_most() -> None:
    gate = admission()
    with gate.permit("", 1, 10**6):
        assert refusal(gate, tokens=10).headers == {"retry-after": "60"}


def test_an_estimate_is_a_quarter_of_the_characters() -> None:
    assert estimated_tokens(4000) == 1000


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["", "one", "other"]), st.integers(1, 3), st.integers(0, 500), st.booleans()
    )
)


@given(STEPS)
def test_whatever_happens_no_permit_is_lost(
    steps: Iterable[tuple[str, int, int, bool]],
) -> None:
    gate = admission(answers=6, per_key=4)
    held: list[ExitStack] = []
    for tenant, answers, tokens, gives_back in steps:
        one = ExitStack()
        try:
            permit = one.enter_context(gate.permit(tenant, answers, tokens))
            gate.weigh(permit, tokens // 2)
            held.append(one)
        except ApiError:
            pass
        if gives_back and held:
            held.pop(0).close()
    for one in held:
        one.close()
    assert (gate.requests, gate.answers, gate.waiting_tokens) == (0, 0, 0)


# --- over HTTP ---


def permits(app: FastAPI) -> Admission:
    gate = app.state.services.admission
    assert isinstance(gate, Admission)
    return gate


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stride")


async def test_too_many_requests_are_told_when_to_come_back(
    build: Build, engine: FakeEngine, metrics: Metrics
) -> None:
    engine.script = hanging("…")
    app = build(caps=Caps(answers=2, per_key=2))
    async with client(app) as http:
        first = asyncio.create_task(ask(http, n=2))
        await engine.started.wait()
        refused = await ask(http)
        assert refused.status_code == 429
        assert error_of(refused)["type"] == "rate_limit_error"
        assert int(refused.headers["retry-after"]) == 1
        assert len(engine.requests) == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert permits(app).requests == 0
    assert b'stride_requests_rejected_total{reason="queue_full"} 1.0' in metrics.render()
    assert b"stride_queue_limit 2.0" in metrics.render()


@pytest.mark.parametrize("path", PATHS.values())
async def test_when_no_answer_may_begin_the_body_is_not_read(
    build: Build, engine: FakeEngine, path: str
) -> None:
    engine.script = hanging("…")
    async with client(build(caps=Caps(answers=1, per_key=1))) as http:
        first = asyncio.create_task(ask(http))
        await engine.started.wait()
        assert (await http.post(path, content=b"not JSON")).status_code == 429
        engine.is_draining = True
        assert (await http.post(path, content=b"not JSON")).status_code == 503
        engine.is_draining = False
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await http.post(path, content=b"not JSON")).status_code == 400


async def test_of_many_at_once_no_more_get_in_than_may(build: Build, engine: FakeEngine) -> None:
    engine.script = hanging("…")
    app = build(caps=Caps(answers=16, per_key=16))
    async with client(app) as http:
        asked = [asyncio.create_task(ask(http, n=2)) for _ in range(200)]
        async with asyncio.timeout(20):
            while sum(task.done() for task in asked) < 192:
                await asyncio.sleep(0.01)
        assert {task.result().status_code for task in asked if task.done()} == {429}
        assert (len(engine.requests), permits(app).answers) == (8, 16)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    assert (permits(app).requests, permits(app).answers) == (0, 0)


async def test_a_full_server_says_so_at_once(build: Build, engine: FakeEngine) -> None:
    engine.script = hanging("…")
    seconds = []
    async with client(build(caps=Caps(answers=1, per_key=1))) as http:
        holding = asyncio.create_task(ask(http))
        await engine.started.wait()
        for _ in range(200):
            begun = time.monotonic()
            refused = await ask(http)
            seconds.append(time.monotonic() - begun)
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
    assert median(seconds) < 0.05  # the others may be unlucky: the machine has other work, too


async def test_a_client_that_has_read_the_end_of_a_stream_may_ask_again_at_once(
    build: Build,
) -> None:
    app = build()
    sent = json.dumps(body(stream=True)).encode()
    messages = iter([{"type": "http.request", "body": sent}])
    held: dict[bool, int] = {}  # by whether the end mark leaves

    async def receive() -> dict[str, object]:
        if (message := next(messages, None)) is None:
            await asyncio.Event().wait()
        return dict(message or {})

    async def send(message: MutableMapping[str, Any]) -> None:
        if content := message.get("body"):
            held[b"[DONE]" in content] = permits(app).requests

    scope = {"type": "http", "method": "POST", "path": PATHS["chat"], "headers": []}
    await app({**scope, "query_string": b"", "root_path": ""}, receive, send)
    assert held == {False: 1, True: 0}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("script", [dying(), dying("a"), failing(), failing("a")])
async def test_a_request_that_fails_gives_its_permit_back(
    build: Build, engine: FakeEngine, script: object, streamed: bool
) -> None:
    engine.script = script  # type: ignore[assignment]
    app = build()
    async with client(app) as http:
        await ask(http, stream=streamed)
        assert permits(app).requests == 0


async def test_a_refused_request_holds_no_permit(build: Build) -> None:
    app = build()
    async with client(app) as http:
        assert (await ask(http, max_tokens=10**6)).status_code == 400
        assert (await ask(http, temperature=9)).status_code == 400
    assert permits(app).requests == 0


async def test_a_prompt_waits_until_its_answer_begins(build: Build, engine: FakeEngine) -> None:
    app = build()
    gate = permits(app)
    waiting: list[int] = []

    def script(request: object) -> Iterable[asyncio.Event]:
        waiting.append(gate.waiting_tokens)
        return []

    engine.script = script  # type: ignore[assignment]
    async with client(app) as http:
        await asyncio.gather(ask(http), return_exceptions=True)
    assert waiting == [len(engine.request.prompt)]
    engine.script = hanging("…")
    async with client(app) as http:
        asking = asyncio.create_task(ask(http))
        await asyncio.sleep(0.05)
        assert (gate.requests, gate.waiting_tokens) == (1, 0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_an_engine_that_says_a_forward_costs_nothing_is_asked_all_the_same(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    cost = Cost(by_rows={1: 0.005, 512: 0.0}, per_key=0.0, per_pair=0.0, median_error=None)
    engine.info = replace(engine_info(), cost=cost)
    assert (await ask(http)).status_code == 200


# --- deadlines ---


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("given", ["header", "field"])
async def test_a_deadline_ends_a_request_that_waits(
    build: Build, engine: FakeEngine, metrics: Metrics, given: str, streamed: bool
) -> None:
    engine.script = hanging()
    app = build()
    fields = {"deadline": 0.05} if given == "field" else {}
    async with client(app) as http:
        if given == "header":
            http.headers["x-stride-deadline"] = "0.05"
        response = await ask(http, stream=streamed, **fields)
    assert response.status_code == 408
    assert error_of(response)["code"] == "deadline_exceeded"
    assert len(engine.closed) == 1
    assert permits(app).requests == 0
    assert b'stride_requests_rejected_total{reason="deadline"} 1.0' in metrics.render()


async def test_a_deadline_ends_a_stream_with_an_error_event(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = hanging("Hello")
    events = await stream(http, deadline=0.2)
    assert events[-1]["error"]["code"] == "deadline_exceeded"
    assert len(engine.closed) == 1


async def test_an_answer_in_time_is_none_the_worse_for_a_deadline(http: httpx.AsyncClient) -> None:
    response = await ask(http, deadline=30, stream=True)
    assert response.text.endswith("data: [DONE]\n\n")


async def test_the_shorter_of_two_deadlines_counts(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = hanging()
    http.headers["x-stride-deadline"] = "0.05"
    assert (await ask(http, deadline=60)).status_code == 408


@pytest.mark.parametrize("written", ["soon", "0", "-1", "nan", "inf", "1e9", ""])
async def test_a_header_that_is_no_number_of_seconds_is_refused(
    http: httpx.AsyncClient, written: str
) -> None:
    http.headers["x-stride-deadline"] = written
    response = await ask(http)
    assert response.status_code == 400
    assert error_of(response)["param"] == "x-stride-deadline"


@pytest.mark.parametrize("deadline", [0, -1, "1", 1e9])
async def test_a_field_that_is_no_number_of_seconds_is_refused(
    http: httpx.AsyncClient, deadline: object
) -> None:
    response = await ask(http, deadline=deadline)
    assert response.status_code == 400
    assert error_of(response)["param"] == "deadline"
