"""What the fields of a request may hold, what they come to, and what is refused."""

import time
from typing import Any

import httpx
import pytest
from asking import ENDPOINTS, Endpoint, answer, ask, error_of
from fakes import FakeEngine, said

from decoding.request import Sampling, Stopping

BIG = 2**63

# field, value, the param named in the error (the field, unless said otherwise)
REFUSED_BY_BOTH: list[tuple[str, object, str]] = [
    ("n", 0, "n"),
    ("n", -1, "n"),
    ("n", 17, "n"),
    ("n", 10**18, "n"),
    ("n", 1.0, "n"),
    ("n", "1", "n"),
    ("n", True, "n"),
    ("max_tokens", -1, "max_tokens"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", 1.5, "max_tokens"),
    ("temperature", -1, "temperature"),
    ("temperature", 2.1, "temperature"),
    ("temperature", "1", "temperature"),
    ("temperature", True, "temperature"),
    ("temperature", 10**400, "temperature"),
    ("top_p", 0, "top_p"),
    ("top_p", 1.1, "top_p"),
    ("top_k", -2, "top_k"),
    ("top_k", BIG, "top_k"),
    ("min_p", 1.1, "min_p"),
    ("presence_penalty", -2.1, "presence_penalty"),
    ("frequency_penalty", 100, "frequency_penalty"),
    ("repetition_penalty", 0, "repetition_penalty"),
    ("repetition_penalty", 11, "repetition_penalty"),
    ("seed", 2**70, "seed"),
    ("seed", -(2**70), "seed"),
    ("seed", 1.0, "seed"),
    ("stop", "", "stop"),
    ("stop", ["a", ""], "stop"),
    ("stop", ["a"] * 17, "stop"),
    ("stop", "a" * 4097, "stop"),
    ("stop", [1], "stop[0]"),
    ("stop_token_ids", [-1], "stop_token_ids[0]"),
    ("stop_token_ids", [260], "stop_token_ids"),
    ("logit_bias", {"5": 101}, "logit_bias.5"),
    ("logit_bias", {"260": 1}, "logit_bias"),
    ("logit_bias", {"x": 1}, "logit_bias"),
    ("logit_bias", {"-1": 1}, "logit_bias"),
    ("logit_bias", {str(token): 0 for token in range(2049)}, "logit_bias"),
    ("stream", "yes", "stream"),
    ("ignore_eos", 1, "ignore_eos"),
    ("min_tokens", 2000, "min_tokens"),
    ("model", 1, "model"),
    ("cache_salt", "x" * 257, "cache_salt"),
    ("decoding", "auto", "decoding"),
    ("decoding", {"strategy": "magic"}, "decoding.strategy"),
    ("decoding", {"strategy": 1}, "decoding.strategy"),
    ("decoding", {"strategy": "autoregressive", "window": 4}, "decoding.window"),
    ("decoding", {"window": []}, "decoding.window"),
    ("response_format", {"type": "json_object"}, "response_format"),
    ("prediction", "x", "prediction"),
    ("prediction", {"type": "content"}, "prediction.content"),
    ("prediction", {"content": "x"}, "prediction.type"),
    ("prediction", {"type": "text", "content": "x"}, "prediction.type"),
    ("prediction", {"type": "content", "content": 5}, "prediction.content"),
    ("prediction", {"type": "content", "content": ["x"]}, "prediction.content[0]"),
    ("prediction", {"type": "content", "content": "x", "y": 1}, "prediction.y"),
    ("documents", "x", "documents"),
    ("documents", [5], "documents[0]"),
    ("documents", ["x", None], "documents[1]"),
    ("documents", ["x", ""], "documents[1].text"),
    ("documents", ["x", " \n"], "documents[1].text"),
    ("documents", [{"text": "\t"}], "documents[0].text"),
    ("documents", [{"text": 5}], "documents[0].text"),
    ("documents", [{"title": "x"}], "documents[0].text"),
    ("documents", [{"text": "x", "title": 5}], "documents[0].title"),
    ("documents", [{"text": "x", "id": "1"}], "documents[0].id"),
    ("documents", ["x"] * 257, "documents"),
    ("documents", [{"text": "x" * 600_000, "title": "x" * 400_001}], "documents"),
    ("documents_in_prompt", "no", "documents_in_prompt"),
    ("surprise", 1, "surprise"),
    ("surprise", None, "surprise"),
]
REFUSED_BY_CHAT: list[tuple[str, object, str]] = [
    ("messages", [], "messages"),
    ("messages", None, "messages"),
    ("messages", "hi", "messages"),
    ("messages", ["hi"], "messages[0]"),
    ("messages", [{"role": "user"}], "messages[0].content"),
    ("messages", [{"role": "user", "content": None}], "messages[0].content"),
    ("messages", [{"role": "user", "content": 5}], "messages[0].content"),
    ("messages", [{"role": "user", "content": []}], "messages[0].content"),
    ("messages", [{"role": "user", "content": [{}] * 9}], "messages[0].content[0]"),
    ("messages", [{"content": "hi"}], "messages[0].role"),
    ("messages", [{"role": "tool", "content": "hi"}], "messages[0].role"),
    ("messages", [{"role": "{{7*7}}", "content": "hi"}], "messages[0].role"),
    ("messages", [{"role": "user", "content": "hi", "x": 1}], "messages[0].x"),
    ("messages", [{"role": "user", "content": "hi", "name": "<a>"}], "messages[0].name"),
    (
        "messages",
        [{"role": "assistant", "content": "hi", "tool_calls": [{}]}],
        "messages[0].tool_calls",
    ),
    ("messages", [{"role": "user", "content": "hi"}] * 2049, "messages"),
    ("max_completion_tokens", 0, "max_completion_tokens"),
    ("logprobs", 1, "logprobs"),
    ("top_logprobs", 21, "top_logprobs"),
    ("top_logprobs", 1, "top_logprobs"),
    ("tools", [{"type": "function"}], "tools"),
    ("tool_choice", "required", "tool_choice"),
    ("functions", [{}], "functions"),
    ("modalities", ["text", "audio"], "modalities"),
    ("audio", {"voice": "x"}, "audio"),
    ("reasoning_effort", "low", "reasoning_effort"),
    ("verbosity", "low", "verbosity"),
    ("chat_template", "{{ 1 }}", "chat_template"),
    ("chat_template_kwargs", {"tokenize": True}, "chat_template_kwargs"),
    ("suffix", "x", "suffix"),
]
REFUSED_BY_COMPLETIONS: list[tuple[str, object, str]] = [
    ("prompt", "", "prompt"),
    ("prompt", None, "prompt"),
    ("prompt", [], "prompt"),
    ("prompt", [[]], "prompt"),
    ("prompt", [""], "prompt"),
    ("prompt", {}, "prompt"),
    ("prompt", [-1], "prompt"),
    ("prompt", [260], "prompt"),
    ("prompt", [1.0], "prompt"),
    ("prompt", [True], "prompt"),
    ("prompt", ["a", [True]], "prompt[1]"),
    ("prompt", ["a", None], "prompt[1]"),
    ("prompt", ["a"] * 129, "prompt"),
    ("prompt", [1, "a"], "prompt"),
    ("logprobs", 21, "logprobs"),
    ("logprobs", True, "logprobs"),
    ("best_of", 2, "best_of"),
    ("suffix", "x", "suffix"),
    ("messages", [], "messages"),
]
REFUSALS = [
    *((endpoint, *case) for endpoint in ENDPOINTS for case in REFUSED_BY_BOTH),
    *(("chat", *case) for case in REFUSED_BY_CHAT),
    *(("completions", *case) for case in REFUSED_BY_COMPLETIONS),
]


def _named(value: object) -> str:
    return str(value)[:30]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("endpoint", "field", "value", "param"), REFUSALS, ids=_named)
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


@pytest.mark.parametrize(("endpoint", "field", "value"), HARMLESS, ids=_named)
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


async def test_a_huge_n_is_refused_quickly(http: httpx.AsyncClient) -> None:
    start = time.monotonic()
    await ask(http, n=10**18)
    assert time.monotonic() - start < 0.5


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
