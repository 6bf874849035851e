"""Text completions: the shapes of a prompt, several prompts, echo and log-probabilities."""

from collections.abc import Iterable

import httpx
import pytest
from asking import answer, stream
from fakes import MODEL, FakeEngine, Script, said, scored
from openai import AsyncOpenAI

from decoding.request import FinishReason, Output, Request


async def test_the_openai_client_reads_a_completion(openai: AsyncOpenAI) -> None:
    completion = await openai.completions.create(model=MODEL, prompt="hi")
    assert completion.object == "text_completion"
    assert completion.choices[0].text == "Hello there"
    assert completion.choices[0].finish_reason == "stop"


async def test_the_openai_client_reads_a_streamed_completion(openai: AsyncOpenAI) -> None:
    chunks = [
        chunk
        async for chunk in await openai.completions.create(model=MODEL, prompt="hi", stream=True)
    ]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello there"
    assert {chunk.object for chunk in chunks} == {"text_completion"}


@pytest.mark.parametrize(
    ("prompt", "num_prompts"),
    [("hi", 1), (["hi", "ho"], 2), ([5, 6], 1), ([[5, 6], [7]], 2), (["hi", [7]], 2)],
)
async def test_a_prompt_has_four_shapes(
    http: httpx.AsyncClient, engine: FakeEngine, prompt: object, num_prompts: int
) -> None:
    content = await answer(http, "completions", prompt=prompt)
    assert len(content["choices"]) == num_prompts
    assert len(engine.requests) == num_prompts


async def test_nothing_is_added_to_a_prompt_of_ids(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await answer(http, "completions", prompt=[5, 6])
    assert engine.request.prompt == (5, 6)


def echoing_prompt(request: Request) -> Iterable[Output]:
    """Answers a prompt with its own length, and a choice with its index."""
    for index in range(request.n):
        yield Output(
            request_id=request.id,
            index=index,
            text=f"{len(request.prompt)}{index}",
            tokens=(1,),
            steps=1,
            finish_reason="stop",
        )


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_choices_are_ordered_by_prompt(
    http: httpx.AsyncClient, engine: FakeEngine, streamed: bool
) -> None:
    engine.script = echoing_prompt
    fields: dict[str, object] = {"prompt": [[1], [1, 2], [1, 2, 3]], "n": 2}
    texts = {}
    if streamed:
        for chunk in (await stream(http, "completions", **fields))[:-1]:
            texts[chunk["choices"][0]["index"]] = chunk["choices"][0]["text"]
    else:
        choices = (await answer(http, "completions", **fields))["choices"]
        texts = {choice["index"]: choice["text"] for choice in choices}
    assert [texts[index] for index in range(6)] == ["10", "11", "20", "21", "30", "31"]


async def test_usage_sums_over_prompts(http: httpx.AsyncClient) -> None:
    usage = (await answer(http, "completions", prompt=[[1], [1, 2]], n=2))["usage"]
    assert usage["prompt_tokens"] == 3
    assert usage["completion_tokens"] == 44


async def test_one_failing_prompt_fails_the_request_and_ends_the_others(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    def script(request: Request) -> Iterable[Output]:
        reason: FinishReason | None = "error" if request.prompt == (2,) else None
        while True:
            yield Output(request_id=request.id, text="x", tokens=(1,), finish_reason=reason)

    engine.script = script
    response = await http.post("/v1/completions", json={"model": MODEL, "prompt": [[1], [2]]})
    assert response.status_code == 500
    assert {identity.rsplit("-", 1)[1] for identity in engine.closed} == {"0", "1"}


async def test_echo_returns_the_prompt_and_the_answer(http: httpx.AsyncClient) -> None:
    content = await answer(http, "completions", prompt=["hi ", "ho "], echo=True)
    assert [choice["text"] for choice in content["choices"]] == ["hi Hello there", "ho Hello there"]


async def test_echo_of_ids_returns_their_text(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    tokens = (await http.post("/tokenize", json={"prompt": "hé<|im_end|>"})).json()["tokens"]
    content = await answer(http, "completions", prompt=tokens, echo=True)
    assert content["choices"][0]["text"] == "hé<|im_end|>Hello there"


def scoring(*texts: str) -> Script:
    """The prompt's scores come with the first output of the request."""

    def script(request: Request) -> Iterable[Output]:
        for number, moment in enumerate(said(*texts, logprobs=True)(request)):
            assert isinstance(moment, Output)
            if number == 0 and request.prompt_logprobs is not None:
                moment.prompt_logprobs = tuple(map(scored, request.prompt[1:]))
            yield moment

    return script


async def test_echoed_logprobs_start_with_null(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = scoring("x")
    content = await answer(http, "completions", prompt="hé!", echo=True, logprobs=1, max_tokens=1)
    logprobs = content["choices"][0]["logprobs"]
    assert engine.request.prompt_logprobs == 1
    assert logprobs.keys() == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert logprobs["tokens"][:4] == ["h", r"bytes:\xc3", r"bytes:\xa9", "!"]
    assert logprobs["token_logprobs"] == [None, -0.5, -0.5, -0.5, -0.5]
    assert logprobs["top_logprobs"][0] is None
    assert list(logprobs["top_logprobs"][3].values()) == [-0.5, -9999.0]
    assert logprobs["text_offset"] == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("n", [1, 2])
async def test_streamed_echo_and_logprobs_are_those_of_the_whole(
    http: httpx.AsyncClient, engine: FakeEngine, n: int
) -> None:
    engine.script = scoring("x", "yz")
    fields: dict[str, object] = {"prompt": "hi", "echo": True, "logprobs": 1, "n": n}
    whole = (await answer(http, "completions", **fields))["choices"]
    chunks = (await stream(http, "completions", **fields))[:-1]
    for index in range(n):
        parts = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert "".join(part["text"] for part in parts) == whole[index]["text"]
        for key, values in whole[index]["logprobs"].items():
            assert [v for p in parts if p["logprobs"] for v in p["logprobs"][key]] == values


async def test_a_prompt_can_be_scored_without_an_answer(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    def script(request: Request) -> Iterable[Output]:
        scores = tuple(map(scored, request.prompt[1:]))
        yield Output(request_id=request.id, prompt_logprobs=scores, finish_reason="length")

    engine.script = script
    fields: dict[str, object] = {"prompt": [5, 6, 7], "echo": True, "logprobs": 1, "max_tokens": 0}
    choice = (await answer(http, "completions", **fields))["choices"][0]
    assert engine.request.stopping.max_tokens == 0
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"]["token_logprobs"] == [None, -0.5, -0.5]


async def test_without_logprobs_there_are_none(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    content = await answer(http, "completions", echo=True)
    assert content["choices"][0]["logprobs"] is None
    assert engine.request.logprobs is None
    assert engine.request.prompt_logprobs is None
