"""What goes on to an upstream, and comes back, unchanged but for the model's name."""

import json
from typing import Any

import pytest
from asking import ENDPOINTS, PATHS, Endpoint, body, error_of
from openai import AsyncOpenAI
from scripted_upstream import (
    LIST,
    MODEL,
    OURS,
    PLAIN,
    Call,
    Front,
    ScriptedUpstream,
    chunk,
    completion,
    usage_of,
)

from server.limits import Limits
from server.scheduler import Policy

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
EVERYTHING: dict[str, Any] = {
    "n": 2,
    "tools": [TOOL],
    "tool_choice": "auto",
    "response_format": {"type": "json_object"},
    "logprobs": True,
    "top_logprobs": 3,
    "seed": 2**63,
    "temperature": 0.1,
    "stop": ["\n"],
    "prediction": {"type": "content", "content": "x"},
    "documents": ["one"],
    "stream_options": {"include_usage": True},
    "field_of_theirs": {"deep": [1, None, {"é": "\u2028"}]},
    "nothing": None,
}


def events(text: str) -> list[Any]:
    lines = text.removesuffix("\n\n").split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_body_goes_on_as_it_is(
    upstream: ScriptedUpstream, front: Front, endpoint: Endpoint
) -> None:
    sent = {**body(endpoint), **EVERYTHING, "model": OURS}
    await front.http.post(PATHS[endpoint], json={**sent, "decoding": {"lossless": True}})
    (call,) = upstream.calls
    assert call.path == PATHS[endpoint]
    assert call.body == {**sent, "model": MODEL}


async def test_an_answer_comes_back_as_it_is(upstream: ScriptedUpstream, front: Front) -> None:
    theirs = completion(odd={"deep": [1e-7, 12345678901234567890]}, system_fingerprint="fp")

    async def script(call: Call) -> None:
        await call.json(theirs)

    upstream.script = script
    response = await front.ask(model=OURS)
    answer = response.json()
    block = answer.pop("decoding")
    assert answer == {**theirs, "model": OURS}
    assert block.keys() == {"strategy", "reason", "lossless", "time_to_first_token_ms"}
    assert (block["strategy"], block["lossless"]) == ("passthrough", True)
    assert response.headers["x-stride-strategy"] == "passthrough"
    assert response.headers["x-stride-reason"] == "the request asked for it"
    assert response.headers["x-request-id"]
    assert upstream.calls[0].headers["accept-encoding"] == "identity"
    assert front.value("stride_prompt_tokens_total", model=MODEL, strategy="passthrough") == 7
    assert front.value("stride_generation_tokens_total", model=MODEL, strategy="passthrough") == 3


@pytest.mark.parametrize("usage", [False, True])
async def test_chunks_come_back_as_they_are(
    upstream: ScriptedUpstream, front: Front, usage: bool
) -> None:
    chunks = [
        chunk({"role": "assistant", "content": ""}, usage=None),
        chunk({"content": "a\u2028b"}, usage=None, logprobs={"x": -0.1}),
        chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"arguments": "{"}}]}),
        chunk({}, finish_reason="tool_calls"),
    ]
    if usage:
        chunks.append(chunk(None, usage=usage_of(5, 4)))

    async def script(call: Call) -> None:
        await call.begin_events()
        for each in chunks:
            await call.event(each)
        await call.end_events()

    upstream.script = script
    response = await front.ask(stream=True, stream_options={"include_usage": usage})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")
    back = events(response.text)
    block = back[-1].pop("decoding")
    assert back == [{**json.loads(each), "model": MODEL} for each in chunks]
    assert block["strategy"] == "passthrough"
    labels = {"model": MODEL, "strategy": "passthrough"}
    assert front.value("stride_generation_tokens_total", **labels) == (4 if usage else 0)
    assert front.value("stride_time_to_first_token_seconds_count", **labels) == 1


async def test_what_an_upstream_says_of_its_decoding_is_kept(
    upstream: ScriptedUpstream, front: Front
) -> None:
    async def script(call: Call) -> None:
        await call.json(completion(decoding={"strategy": "lookahead"}))

    upstream.script = script
    block = (await front.ask()).json()["decoding"]
    assert block["strategy"] == "passthrough"
    assert block["upstream"] == {"strategy": "lookahead"}


async def test_the_block_comes_with_the_last_of_several_choices(
    upstream: ScriptedUpstream, front: Front
) -> None:
    async def script(call: Call) -> None:
        await call.begin_events()
        for index in (0, 1):
            choice = {"index": index, "delta": {"content": "x"}, "finish_reason": "stop"}
            await call.event(json.dumps({"model": MODEL, "choices": [choice]}))
        await call.end_events()

    upstream.script = script
    back = events((await front.ask(stream=True, n=2)).text)
    assert ["decoding" in each for each in back] == [False, True]


async def test_a_stream_without_its_end_mark_is_whole_if_its_answer_is(
    upstream: ScriptedUpstream, front: Front
) -> None:
    async def script(call: Call) -> None:
        await call.begin_events()
        await call.event(chunk({"content": "x"}, finish_reason="stop"))
        await call.end_events(mark=False)

    upstream.script = script
    assert (await front.ask(stream=True)).text.endswith("data: [DONE]\n\n")


async def test_the_openai_client_reads_both(upstream: ScriptedUpstream, front: Front) -> None:
    client = AsyncOpenAI(
        base_url="http://test/v1", api_key="any", http_client=front.http, max_retries=0
    )
    messages: Any = [{"role": "user", "content": "hi"}]
    whole = await client.chat.completions.create(model=MODEL, messages=messages)
    assert whole.choices[0].message.content == "Hello"
    stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
    assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "Hello"


# --- what is refused here ---


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt-9"}, 404, "model"),
        ({"model": None}, 400, "model"),
        ({"stream": "yes"}, 400, "stream"),
        ({"decoding": []}, 400, "decoding"),
        ({"decoding": {"strategy": "lookahead"}}, 400, "decoding.strategy"),
        ({"decoding": {"strategy": "passthrough", "points": 3}}, 400, "decoding.points"),
        ({"decoding": {"points": 3}}, 400, "decoding.points"),
        ({"decoding": {"strategy": "skeleton", "points": 99}}, 400, "decoding.points"),
        ({"decoding": {"strategy": "skeleton", "points": [1]}}, 400, "decoding.points"),
        ({"decoding": {"strategy": "skeleton", "lossless": True}}, 400, "decoding.lossless"),
        ({"decoding": {"strategy": "skeleton"}, "tools": [TOOL]}, 400, "tools"),
        ({"decoding": {"strategy": "skeleton"}, "n": 2}, 400, "n"),
        ({"decoding": {"strategy": "skeleton"}, "messages": "x"}, 400, "messages"),
        ({"decoding": {"strategy": "skeleton"}, "max_tokens": -1}, 400, "max_tokens"),
        ({"decoding": {"strategy": "skeleton"}, "stop": [1]}, 400, "stop"),
        ({"decoding": {"strategy": "skeleton"}, "stop": ["a", ""]}, 400, "stop"),
        ({"decoding": {"budget": True}}, 400, "decoding.budget"),
    ],
)
async def test_what_cannot_be_done_here_is_refused(
    upstream: ScriptedUpstream, front: Front, fields: dict[str, object], status: int, param: str
) -> None:
    response = await front.ask(**fields)
    assert response.status_code == status
    assert error_of(response)["param"] == param
    assert not upstream.calls


async def test_a_refusal_lists_the_strategies(front: Front) -> None:
    response = await front.ask(decoding={"strategy": "jacobi"})
    assert "auto, passthrough, skeleton" in error_of(response)["message"]


async def test_a_text_is_not_written_in_points(front: Front) -> None:
    response = await front.ask("completions", decoding={"strategy": "skeleton"})
    assert error_of(response)["param"] == "decoding.strategy"
    response = await front.ask("completions", decoding=None, prompt=LIST)
    assert response.headers["x-stride-strategy"] == "passthrough"


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
async def test_there_is_no_tokenizer(front: Front, path: str) -> None:
    response = await front.http.post(path, json={"prompt": "x"})
    assert response.status_code == 404
    assert error_of(response)["code"] == "no_tokenizer"


async def test_models_are_listed_by_both_names(front: Front) -> None:
    listed = (await front.http.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == [OURS, MODEL]
    assert (await front.http.get(f"/v1/models/{OURS}")).json() == listed[0]
    assert (await front.http.get("/v1/models/other")).status_code == 404


async def test_keys_and_limits_are_those_of_the_server(upstream: ScriptedUpstream) -> None:
    front = Front(upstream, api_keys=["mine"], limits=Limits(body_bytes=2000))
    assert (await front.ask()).status_code == 401
    front.http.headers["authorization"] = "Bearer mine"
    assert (await front.ask()).status_code == 200
    assert (await front.ask(user="x" * 3000)).status_code == 413
    assert len(upstream.calls) == 1
    assert front.value("stride_requests_rejected_total", reason="auth") == 1


# --- when it is chosen ---


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL]},
        {"response_format": {"type": "json_object"}},
        {"n": 2},
        {"seed": 1},
        {"stop": ["x"]},
        {"logprobs": True},
        {"max_tokens": 20},
        {"prediction": {"type": "content", "content": "x"}},
        {"documents": ["x"]},
        {"guided_json": {}},
        {"max_tokens": -500},
        {"a\r\nset-cookie": 1},
        {"decoding": {"lossless": True}},
        {"messages": [{"role": "user", "content": LIST}, {"role": "assistant", "content": "1."}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "tool", "content": "x"}, {"role": "user", "content": LIST}]},
    ],
)
async def test_a_list_question_with_more_to_it_is_passed_on(
    upstream: ScriptedUpstream, front: Front, fields: dict[str, object]
) -> None:
    fields = {"messages": [{"role": "user", "content": LIST}], "decoding": None, **fields}
    assert (await front.ask(**fields)).headers["x-stride-strategy"] == "passthrough"
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("policy", [Policy(lossless_only=True), Policy(skeleton_beside=0)])
async def test_an_operator_can_have_all_passed_on(
    upstream: ScriptedUpstream, policy: Policy
) -> None:
    front = Front(upstream, policy)
    response = await front.ask(messages=[{"role": "user", "content": LIST}], decoding=None)
    assert response.headers["x-stride-strategy"] == "passthrough"


async def test_plain_questions_say_why_they_are_passed_on(front: Front) -> None:
    response = await front.ask(**{**PLAIN, "decoding": {"strategy": "auto"}})
    reason = response.headers["x-stride-reason"]
    assert reason == "nothing asks for another answer than the upstream's"
