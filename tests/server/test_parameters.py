"""What the fields of a request may hold, what they come to, and what is refused."""

import time
import tracemalloc
from typing import Any

import httpx
import pytest
from asking import ENDPOINTS, Endpoint, answer, ask, error_of
from fakes import FakeEngine, said
from refusals import REFUSALS, named

from decoding.request import Sampling, Stopping


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("endpoint", "field", "value", "param"), REFUSALS, ids=named)
async def test_refusals_name_the_field(
    http: httpx.AsyncClient,
    engine: FakeEngine,
    endpoint: Endpoint,
    field: str,
    value: object,
    param: str,
    streamed: bool,
) -> None:
    response = await ask(http, endpoint, **{"stream": streamed, field: value})
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert error["param"] == param
    assert len(error["message"]) < 500
    assert not engine.requests


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_stream_options_need_a_stream(http: httpx.AsyncClient, endpoint: Endpoint) -> None:
    response = await ask(http, endpoint, stream_options={"include_usage": True})
    assert response.status_code == 400
    assert error_of(response)["param"] == "stream_options"


async def test_different_token_limits_are_refused(http: httpx.AsyncClient) -> None:
    response = await ask(http, max_tokens=5, max_completion_tokens=6)
    assert response.status_code == 400
    assert error_of(response)["param"] == "max_tokens"


async def test_min_tokens_over_max_tokens_is_refused(http: httpx.AsyncClient) -> None:
    response = await ask(http, max_tokens=5, min_tokens=6)
    assert error_of(response)["param"] == "min_tokens"


async def test_all_bad_bias_ids_are_named_with_the_vocabulary_size(
    http: httpx.AsyncClient,
) -> None:
    response = await ask(http, logit_bias={"5": 1, "260": 1, "x": 1})
    message = error_of(response)["message"]
    assert "260, x" in message
    assert "vocabulary size is 260" in message


async def test_unknown_strategy_lists_the_valid_ones(http: httpx.AsyncClient) -> None:
    response = await ask(http, decoding={"strategy": "magic"})
    assert "auto, autoregressive" in error_of(response)["message"]


HARMLESS_TO_BOTH: dict[str, object] = {
    "user": "me",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "auto",
    "safety_identifier": "x",
    "prompt_cache_key": "x",
    "prompt_cache_retention": "24h",
    "response_format": {"type": "text"},
    "logprobs": False,
    "documents": [],
    "documents_in_prompt": False,
    "prediction": {"type": "content", "content": ""},
}
HARMLESS_TO_CHAT: dict[str, object] = {
    "tools": [],
    "functions": [],
    "tool_choice": "auto",
    "function_call": "none",
    "parallel_tool_calls": True,
    "modalities": ["text"],
    "top_logprobs": 0,
}
HARMLESS = [
    *((endpoint, *case) for endpoint in ENDPOINTS for case in HARMLESS_TO_BOTH.items()),
    *(("chat", *case) for case in HARMLESS_TO_CHAT.items()),
    ("completions", "best_of", 1),
    ("completions", "suffix", ""),
]


@pytest.mark.parametrize(("endpoint", "field", "value"), HARMLESS, ids=named)
async def test_fields_that_change_nothing_are_accepted(
    http: httpx.AsyncClient, engine: FakeEngine, endpoint: Endpoint, field: str, value: object
) -> None:
    await answer(http, endpoint, seed=1)
    await answer(http, endpoint, seed=1, **{field: value})
    plain, with_field = engine.requests
    assert with_field.sampling == plain.sampling
    assert with_field.stopping == plain.stopping
    assert with_field.prompt == plain.prompt
    assert with_field.references == ()


NULLABLE: dict[Endpoint, list[str]] = {
    "chat": [
        *("n", "stop", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
        *("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias"),
        *("seed", "logprobs", "top_logprobs", "tools", "tool_choice", "functions", "audio"),
        *("response_format", "user", "metadata", "store", "service_tier", "modalities"),
        *("prediction", "documents", "parallel_tool_calls", "reasoning_effort", "verbosity"),
        "documents_in_prompt",
        *("top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "decoding"),
        *("stop_token_ids", "cache_salt", "safety_identifier", "prompt_cache_key"),
    ],
    "completions": [
        *("n", "stop", "stream", "stream_options", "max_tokens", "temperature", "top_p"),
        *("presence_penalty", "frequency_penalty", "logit_bias", "seed", "logprobs", "echo"),
        *("best_of", "suffix", "user", "decoding", "prediction", "documents"),
        "documents_in_prompt",
    ],
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_null_means_default(
    http: httpx.AsyncClient, engine: FakeEngine, endpoint: Endpoint
) -> None:
    nulls: dict[str, object] = dict.fromkeys(NULLABLE[endpoint])
    await answer(http, endpoint, **nulls)
    assert engine.request.n == 1
    assert engine.request.stopping.stop == ()
    assert engine.request.sampling.temperature == 1.0


async def test_nested_null_means_default(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    messages = [
        {"role": "user", "content": "hi", "name": None},
        {"role": "assistant", "content": "yo", "tool_calls": None, "refusal": None, "audio": None},
        {"role": "user", "content": "hi"},
    ]
    await answer(http, messages=messages, decoding={"strategy": None})
    assert engine.request.strategy == "lookahead"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_field_reaches_the_engine(
    http: httpx.AsyncClient, engine: FakeEngine, endpoint: Endpoint
) -> None:
    await answer(
        http,
        endpoint,
        n=2,
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        presence_penalty=1,
        frequency_penalty=-1,
        repetition_penalty=1.2,
        logit_bias={"5": -100},
        seed=42,
        max_tokens=9,
        min_tokens=3,
        stop=["x", "y"],
        stop_token_ids=[7],
        ignore_eos=True,
        cache_salt="salt",
        decoding={"strategy": "autoregressive"},
    )
    assert engine.request.sampling == Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        presence_penalty=1,
        frequency_penalty=-1,
        repetition_penalty=1.2,
        logit_bias={5: -100},
        seed=42,
    )
    assert engine.request.stopping == Stopping(
        max_tokens=9, min_tokens=3, stop=("x", "y"), stop_token_ids=(7,), ignore_eos=True
    )
    assert engine.request.n == 2
    assert engine.request.cache_salt == "salt"
    assert engine.request.strategy == "autoregressive"


@pytest.mark.parametrize(
    ("sent", "field", "received"),
    [
        ({"top_k": -1}, "top_k", 0),
        ({"temperature": 1e-9}, "temperature", 0.0),
        ({"temperature": 0}, "temperature", 0.0),
        ({"seed": -1}, "seed", 2**63 - 1),
        ({"seed": 2**64 - 1}, "seed", 2**63 - 1),
    ],
)
async def test_values_are_brought_into_the_engine_s_range(
    http: httpx.AsyncClient,
    engine: FakeEngine,
    sent: dict[str, object],
    field: str,
    received: object,
) -> None:
    await answer(http, "chat", **sent)
    assert getattr(engine.request.sampling, field) == received


async def test_an_absent_seed_is_a_new_one_every_time(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await answer(http)
    await answer(http)
    assert engine.requests[0].sampling.seed != engine.requests[1].sampling.seed


async def test_a_chat_may_fill_the_context(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    await answer(http)
    assert len(engine.request.prompt) + engine.request.stopping.max_tokens == 200


async def test_a_completion_has_sixteen_tokens_by_default(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await answer(http, "completions")
    assert engine.request.stopping.max_tokens == 16


async def test_max_completion_tokens_is_honoured(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await answer(http, max_completion_tokens=5)
    await answer(http, max_completion_tokens=5, max_tokens=5)
    assert [request.stopping.max_tokens for request in engine.requests] == [5, 5]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_request_over_the_context_is_told_both_numbers(
    http: httpx.AsyncClient, engine: FakeEngine, endpoint: Endpoint, streamed: bool
) -> None:
    response = await ask(http, endpoint, max_tokens=2**31, stream=streamed)
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "context_length_exceeded"
    assert "200 tokens" in error["message"]
    assert f"{2**31} in the answer" in error["message"]
    assert not engine.requests


async def test_a_prompt_that_leaves_no_room_is_refused(http: httpx.AsyncClient) -> None:
    response = await ask(http, messages=[{"role": "user", "content": "x" * 200}])
    assert error_of(response)["code"] == "context_length_exceeded"


async def test_nothing_is_made_for_a_huge_n_before_it_is_refused(http: httpx.AsyncClient) -> None:
    await ask(http, n=17)  # what is made once for all requests
    tracemalloc.start()
    try:
        start = time.monotonic()
        assert (await ask(http, n=10**18)).status_code == 400
        assert time.monotonic() - start < 0.5  # a hundredth of it on a quiet machine
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


async def test_many_messages_are_refused_quickly(http: httpx.AsyncClient) -> None:
    start = time.monotonic()
    response = await ask(http, messages=[{"role": "user", "content": ""}] * 100_000)
    assert response.status_code == 400
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_many_documents_are_refused_quickly(
    http: httpx.AsyncClient, endpoint: Endpoint
) -> None:
    start = time.monotonic()
    response = await ask(http, endpoint, documents=[{"text": "x"}] * 100_000)
    assert response.status_code == 400
    assert time.monotonic() - start < 2


async def test_choices_of_all_prompts_are_capped(http: httpx.AsyncClient) -> None:
    response = await ask(http, "completions", prompt=["a"] * 128, n=3)
    assert error_of(response)["param"] == "n"


async def test_at_most_two_hundred_characters_are_echoed(http: httpx.AsyncClient) -> None:
    for fields in ({"x" * 5000: 1}, {"model": "y" * 5000}, {"stream": "z" * 5000}):
        response = await ask(http, **fields)
        error = error_of(response)
        assert max(map(error["message"].count, "xyz")) <= 200
        assert len(error["param"]) <= 200


async def test_an_alias_serves_the_model(http: httpx.AsyncClient) -> None:
    response: dict[str, Any] = await answer(http, model="default")
    assert response["model"] == "default"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_unknown_model_is_not_found(http: httpx.AsyncClient, endpoint: Endpoint) -> None:
    response = await ask(http, endpoint, model="gpt-x")
    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"


async def test_several_choices_are_asked_of_the_engine_at_once(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = said("a")
    response = await answer(http, n=3)
    assert engine.request.n == 3
    assert [choice["index"] for choice in response["choices"]] == [0, 1, 2]


async def test_too_many_token_ids_are_refused_before_they_are_read(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> str:
        raise AssertionError("they were read")

    monkeypatch.setattr("server.tokenizer.Tokenizer.decode", decode)
    response = await ask(http, "completions", prompt=[7] * 200)
    assert error_of(response)["code"] == "context_length_exceeded"
