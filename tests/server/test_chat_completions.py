"""Chat answers, whole and streamed, as the OpenAI client and the wire show them."""

from collections.abc import Callable

import httpx
import pytest
from asking import answer, ask, error_of, stream
from fakes import MODEL, FakeEngine, Script, dying, failing, said
from openai import APIError, APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from decoding.request import Decision, Explanation, Output, SourceCounts
from server.tally import Tally

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


async def test_the_openai_client_reads_an_answer(openai: AsyncOpenAI) -> None:
    completion = await openai.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert completion.choices[0].message.content == "Hello there"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 11


async def test_the_openai_client_reads_a_stream(openai: AsyncOpenAI) -> None:
    chunks = await openai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    texts = [chunk.choices[0].delta.content or "" async for chunk in chunks]
    assert "".join(texts) == "Hello there"


async def test_an_answer_has_the_documented_keys(http: httpx.AsyncClient) -> None:
    content = await answer(http)
    assert content["object"] == "chat.completion"
    assert content["id"].startswith("chatcmpl-")
    assert isinstance(content["created"], int)
    assert content["choices"] == [
        {
            "index": 0,
            "message": {"content": "Hello there", "role": "assistant", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]


async def test_usage_counts_the_prompt_once(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = said("ab", cached=4)
    usage = (await answer(http, n=3))["usage"]
    prompt = len(engine.request.prompt)
    assert usage == {
        "prompt_tokens": prompt,
        "completion_tokens": 6,
        "total_tokens": prompt + 6,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
            "reasoning_tokens": 0,
            "audio_tokens": 0,
        },
    }


async def test_an_answer_says_how_it_was_decoded(http: httpx.AsyncClient) -> None:
    block = (await answer(http))["decoding"]
    assert block.pop("time_to_first_token_ms") > 0
    assert block.pop("tokens_per_second") > 0
    assert block == {
        "strategy": "lookahead",
        "reason": "nothing is known that the answer would repeat",
        "history": "off",
        "lossless": True,
        "bit_exact": True,
        "model_steps": 2,
        "steps_saved": 9,
        "drafted_tokens": 9,
        "accepted_tokens": 9,
        "sources": {},
    }


DECISION = Decision(
    sequences=2,
    context_tokens=90,
    proposed=20,
    granted=12,
    expected_tokens=6.512,
    plain_seconds=0.006,
    seconds=0.009,
    least_chance=0.0625,
)


async def test_the_budgets_decisions_are_told_to_who_asks(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    explanation = Explanation(proposed=12, granted=7, accepted=3, decision=DECISION)
    engine.script = said("one", "two", explanation=explanation)
    assert "budget" not in (await answer(http))["decoding"]
    budget = (await answer(http, decoding={"budget": True}))["decoding"]["budget"]
    assert len(budget) == 2
    assert budget[0] == {
        "choice": 0,
        "proposed": 12,
        "granted": 7,
        "accepted": 3,
        "batch": {
            "sequences": 2,
            "context_tokens": 90,
            "proposed": 20,
            "granted": 12,
            "expected_tokens": 6.51,
            "plain_forward_ms": 6.0,
            "forward_ms": 9.0,
            "least_chance": 0.062,
        },
    }


async def test_a_step_without_a_decision_says_so(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    resting = Explanation(proposed=0, granted=0, accepted=0, decision=None)
    engine.script = said("one", explanation=resting)
    body = await answer(http, decoding={"strategy": "lookahead", "budget": True, "window": 3})
    (step,) = body["decoding"]["budget"]
    assert step == {"choice": 0, "proposed": 0, "granted": 0, "accepted": 0, "batch": None}
    assert engine.request.options == {"window": 3}


async def test_jacobi_reports_its_iterations(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = said("one", "two", sources={"jacobi": SourceCounts(1, 15, 3)})
    body = await answer(http, decoding={"strategy": "jacobi", "block": 8})
    assert body["decoding"]["figures"] == {
        "iterations": 2,
        "tokens_per_iteration": 4.0,
        "iterations_per_block": 2.0,
    }


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_headers_name_strategy_and_reason(http: httpx.AsyncClient, streamed: bool) -> None:
    response = await ask(http, stream=streamed)
    assert response.headers["x-stride-strategy"] == "lookahead"
    assert response.headers["x-stride-reason"] == "nothing is known that the answer would repeat"
    assert response.headers["x-request-id"].startswith("req-")


async def test_a_stream_is_an_uncached_event_stream(http: httpx.AsyncClient) -> None:
    headers = (await ask(http, stream=True)).headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"


async def test_a_stream_gives_role_text_and_end_in_order(http: httpx.AsyncClient) -> None:
    *chunks, done = await stream(http)
    assert done == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " there"},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]


async def test_chunks_of_a_stream_share_id_time_and_model(http: httpx.AsyncClient) -> None:
    chunks = (await stream(http))[:-1]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


async def test_a_stream_has_usage_only_when_asked(http: httpx.AsyncClient) -> None:
    chunks = (await stream(http))[:-1]
    assert not any("usage" in chunk for chunk in chunks)
    assert all(chunk["choices"] for chunk in chunks)


async def test_asked_usage_comes_in_a_chunk_of_its_own(http: httpx.AsyncClient) -> None:
    *chunks, last, done = await stream(http, stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 11
    assert last["decoding"]["model_steps"] == 2
    assert not any("decoding" in chunk for chunk in chunks)


async def test_without_usage_the_last_choice_to_finish_says_how_it_was_decoded(
    http: httpx.AsyncClient,
) -> None:
    *chunks, last, _ = await stream(http, n=2)
    assert last["decoding"]["model_steps"] == 4
    assert not any("decoding" in chunk for chunk in chunks)


async def test_every_choice_of_a_stream_starts_with_one_role(http: httpx.AsyncClient) -> None:
    choices = [chunk["choices"][0] for chunk in (await stream(http, n=2))[:-1]]
    for index in (0, 1):
        deltas = [choice["delta"] for choice in choices if choice["index"] == index]
        assert [("role" in delta) for delta in deltas] == [True, False, False, False]
        assert deltas[-1] == {}


async def test_text_that_comes_with_the_end_is_not_lost(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = said("only", finish="length")
    choices = [chunk["choices"][0] for chunk in (await stream(http))[:-1]]
    assert choices[1]["delta"] == {"content": "only"}
    assert choices[2]["finish_reason"] == "length"


async def test_held_back_text_makes_no_chunk(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = said("a", "", "b")
    deltas = [chunk["choices"][0]["delta"] for chunk in (await stream(http))[1:-2]]
    assert deltas == [{"content": "a"}, {"content": "b"}]


async def test_line_separators_do_not_break_an_event(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = said("a\u2028b\x85c\u2029\n\r")
    response = await ask(http, stream=True)
    assert all(not line or line.startswith("data: ") for line in response.text.splitlines())
    assert (await stream(http))[1]["choices"][0]["delta"]["content"] == "a\u2028b\x85c\u2029\n\r"


async def test_logprobs_have_text_bytes_and_alternatives(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = said("é", logprobs=True)  # tokens 0xC3, 0xA9 of the alphabet
    choice = (await answer(http, logprobs=True, top_logprobs=2))["choices"][0]
    first = choice["logprobs"]["content"][0]
    assert choice["logprobs"]["refusal"] is None
    assert first.keys() == {"token", "logprob", "bytes", "top_logprobs"}
    assert first["logprob"] == -0.5
    assert [top["logprob"] for top in first["top_logprobs"]] == [-0.5, -9999.0]
    assert engine.request.logprobs == 2


async def test_logprobs_without_alternatives(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    await answer(http, logprobs=True)
    assert engine.request.logprobs == 0


async def test_streamed_logprobs_are_those_of_the_whole(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = said("ab", "", "c", logprobs=True)
    whole = (await answer(http, logprobs=True))["choices"][0]["logprobs"]["content"]
    chunks = [chunk["choices"][0] for chunk in (await stream(http, logprobs=True))[:-1]]
    streamed = [c["logprobs"]["content"] for c in chunks if c["logprobs"]]
    assert [entry for part in streamed for entry in part] == whole


async def test_a_failed_choice_is_a_server_error(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = failing("Hel")
    response = await ask(http)
    assert response.status_code == 500
    error = error_of(response)
    assert error["type"] == "server_error"
    assert "a bad sampler" in error["message"]
    assert response.headers["x-stride-strategy"] == "lookahead"


async def test_a_failure_before_the_first_byte_of_a_stream_has_its_status(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = dying()
    response = await ask(http, stream=True)
    assert response.status_code == 503
    assert error_of(response)["code"] == "engine_died"
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(("script", "code"), [(dying, "engine_died"), (failing, "engine_error")])
async def test_a_failure_later_in_a_stream_is_its_last_event(
    http: httpx.AsyncClient, engine: FakeEngine, script: Callable[..., Script], code: str
) -> None:
    engine.script = script("Hel")
    *_, text, error = await stream(http)
    assert text["choices"][0]["delta"] == {"content": "Hel"}
    assert error["error"]["code"] == code


async def test_the_openai_client_raises_on_a_failing_stream(
    openai: AsyncOpenAI, engine: FakeEngine
) -> None:
    engine.script = dying("Hel")
    chunks = await openai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    with pytest.raises(APIError, match="engine stopped"):
        async for _ in chunks:
            pass


async def test_the_openai_client_raises_on_an_error(openai: AsyncOpenAI) -> None:
    with pytest.raises(APIStatusError) as raised:
        await openai.chat.completions.create(model="gpt-x", messages=MESSAGES)
    assert raised.value.code == "model_not_found"


@pytest.mark.parametrize("state", ["loading", "stuck"])
async def test_an_engine_that_is_not_ready_takes_no_request(
    http: httpx.AsyncClient, engine: FakeEngine, state: str
) -> None:
    engine.ready = False
    engine.info = None if state == "loading" else engine.info
    response = await ask(http)
    assert response.status_code == 503
    assert error_of(response)["code"] == "not_ready"
    assert "retry-after" in response.headers


async def test_an_answer_of_one_step_has_no_speed(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = said("Hello there")
    assert (await answer(http))["decoding"]["tokens_per_second"] is None


async def test_tokens_of_the_first_step_do_not_count_as_speed() -> None:
    tally = Tally(arrived=0.0, prompt_tokens=1)
    tally.add(0, Output(request_id="", tokens=tuple(range(100))))
    tally.add(0, Output(request_id="", tokens=(1, 2)))
    (choice,) = tally.choices.values()
    choice.first_at, choice.last_at = 1.0, 2.0
    assert (tally.tokens_per_second, choice.seconds_per_token) == (2.0, 0.5)
