"""Past answers on the wire: remembered, found again, said so, and kept apart by tenant."""

from collections.abc import AsyncIterator

import httpx
import pytest
from asking import ENDPOINTS, Endpoint, answer, ask, stream
from conftest import Build, connect
from fakes import FakeEngine, dying, said

from decoding.request import Reference
from server.history import History
from server.metrics import Metrics
from server.scheduler import Policy

ANSWER = "An answer of some length."
TOKENS = tuple(ANSWER.encode())


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(script=said(ANSWER))


@pytest.fixture
async def http(build: Build) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(build(history=History(10))) as client:
        yield client


def asked(question: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}]}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_same_prompt_is_drafted_from_its_last_answer(
    http: httpx.AsyncClient, engine: FakeEngine, endpoint: Endpoint
) -> None:
    first = await answer(http, endpoint)
    second = await answer(http, endpoint)
    assert (first["decoding"]["history"], second["decoding"]["history"]) == ("miss", "hit")
    assert second["decoding"]["reason"] == "the same prompt was answered before"
    assert engine.request.strategy == "reference"
    assert engine.request.references == (Reference("history", TOKENS, 1.0),)


async def test_a_similar_prompt_is_drafted_from_it_too(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await answer(http, **asked("How do I sort a list in Python?"))
    body = await answer(http, **asked("How can I sort a list in Python?"))
    assert body["decoding"]["history"] == "similar"
    assert body["decoding"]["reason"] == "a similar prompt was answered before"
    (reference,) = engine.request.references
    assert reference.tokens == TOKENS
    assert reference.likeness < 1


async def test_another_question_is_a_miss(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    await answer(http, **asked("How do I sort a list in Python?"))
    body = await answer(http, **asked("Why is the sky blue?"))
    assert body["decoding"]["history"] == "miss"
    assert body["decoding"]["strategy"] == "lookahead"
    assert engine.request.references == ()


async def test_a_stream_is_remembered_like_a_whole_answer(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await stream(http)
    assert (await answer(http))["decoding"]["history"] == "hit"


async def test_an_answer_that_failed_is_not_remembered(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = dying(ANSWER)
    assert (await ask(http)).status_code == 503
    engine.script = said(ANSWER)
    assert (await answer(http))["decoding"]["history"] == "miss"


async def test_nothing_is_looked_up_for_a_strategy_that_copies_nothing(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await answer(http)
    body = await answer(http, decoding={"strategy": "autoregressive"})
    assert body["decoding"]["history"] == "off"
    assert engine.request.references == ()


async def test_reference_copy_by_name_uses_past_answers(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await answer(http)
    body = await answer(http, decoding={"strategy": "reference"})
    assert body["decoding"]["reason"] == "the request asked for it"
    assert len(engine.request.references) == 1


async def test_the_history_can_be_turned_off(build: Build, engine: FakeEngine) -> None:
    async with connect(build(history=History(0))) as http:
        outcomes = [(await answer(http))["decoding"]["history"] for _ in range(2)]
    assert outcomes == ["off", "off"]


async def test_keys_never_see_each_others_answers(build: Build) -> None:
    app = build(history=History(10), api_keys=["one", "two"])
    outcomes = []
    for key in ("one", "two", "one"):
        async with connect(app) as http:
            http.headers["authorization"] = f"Bearer {key}"
            outcomes.append((await answer(http))["decoding"]["history"])
    assert outcomes == ["miss", "miss", "hit"]


async def test_salts_keep_answers_apart(http: httpx.AsyncClient) -> None:
    blocks = [(await answer(http, cache_salt=salt))["decoding"] for salt in ("a", "b", "a")]
    assert [block["history"] for block in blocks] == ["miss", "miss", "hit"]


async def test_every_prompt_is_looked_up_by_itself(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await answer(http, "completions", prompt=["one prompt", "quite another"])
    body = await answer(http, "completions", prompt=["nothing of the kind", "quite another"])
    unknown, known = engine.requests[-2:]
    assert (len(unknown.references), len(known.references)) == (0, 1)
    assert (body["decoding"]["history"], known.strategy) == ("hit", "reference")


async def test_look_ups_are_counted(http: httpx.AsyncClient, metrics: Metrics) -> None:
    for _ in range(3):
        await answer(http)
    lines = metrics.render().decode()
    assert 'stride_history_lookups_total{outcome="hit"} 2.0' in lines
    assert 'stride_history_lookups_total{outcome="miss"} 1.0' in lines
    assert 'stride_history_lookups_total{outcome="off"} 0.0' in lines


# --- defaults of options ---


async def test_settings_give_options_that_a_request_may_change(
    build: Build, engine: FakeEngine
) -> None:
    app = build(policy=Policy({"reference": {"match": 3, "copy": 9}}))
    async with connect(app) as http:
        await answer(http, decoding={"strategy": "reference", "copy": 4})
        await answer(http, prediction={"type": "content", "content": "so"})
        await answer(http)
    options = [dict(request.options) for request in engine.requests]
    assert options == [{"match": 3, "copy": 4}, {"match": 3, "copy": 9}, {}]
