"""The real model behind the real server, asked by the real clients over a real socket."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import httpx
import openai
import psutil
import pytest
from openai import AsyncOpenAI, OpenAI
from prometheus_client.parser import text_string_to_metric_families
from server_process import ServerProcess

from decoding.models import DEFAULT_MODEL as MODEL

pytestmark = pytest.mark.slow
PATIENCE = 60  # seconds, for what takes less than two on a quiet machine
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
COUNTING, COUNTED = "1, 2, 3, 4, 5,", " 6, 7, 8, 9, 10,"  # sixteen tokens
FRANCE = "What is the capital of France?"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
STORY = "Tell me a story about a lighthouse."


@pytest.fixture(scope="module")
def client(real_server: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{real_server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def http(real_server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=real_server.url, timeout=PATIENCE) as http:
        yield http


@pytest.fixture
async def many(real_server: ServerProcess) -> AsyncIterator[AsyncOpenAI]:
    """A client for many requests at once."""
    async with AsyncOpenAI(
        base_url=f"{real_server.url}/v1", api_key="any", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def http_async(real_server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=real_server.url, timeout=PATIENCE) as http:
        yield http


# --- asking ---


class Ask(NamedTuple):
    """A request in the words of the `openai` client."""

    path: str
    fields: dict[str, Any]

    @property
    def body(self) -> dict[str, Any]:
        """The same for a client that sends what it is given."""
        fields = dict(self.fields)
        extra = fields.pop("extra_body", {})
        return {"model": MODEL, **fields, **extra}


PLAINLY = {"extra_body": {"decoding": {"strategy": "autoregressive"}}}


def chat(question: str, **fields: Any) -> Ask:
    messages = [{"role": "user", "content": question}]
    return Ask(CHAT, {"messages": messages, "temperature": 0, "max_tokens": 12, **fields})


def completion(prompt: Any, **fields: Any) -> Ask:
    return Ask(COMPLETIONS, {"prompt": prompt, "temperature": 0, "max_tokens": 12, **fields})


def create(client: Any, ask: Ask, **fields: Any) -> Any:
    """What the client makes of the request: an answer, a stream, or something to await."""
    resource = client.chat.completions if ask.path == CHAT else client.completions
    return resource.create(model=MODEL, **ask.fields, **fields)


def text_of(choice: Any) -> str:
    return str(choice.message.content if hasattr(choice, "message") else choice.text)


def added_by(choice: Any) -> str:
    return str((choice.delta.content if hasattr(choice, "delta") else choice.text) or "")


def texts(answer: Any) -> list[str]:
    return [text_of(choice) for choice in answer.choices]


def texts_of_chunks(chunks: list[Any]) -> list[str]:
    joined: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            joined[choice.index] = joined.get(choice.index, "") + added_by(choice)
    return [joined[index] for index in sorted(joined)]


def finish_reason(chunks: list[Any]) -> str:
    (reason,) = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    return str(reason)


def events(response: httpx.Response) -> list[Any]:
    """What a stream says on the wire, its end mark left out."""
    assert response.status_code == 200, response.text
    *lines, end, nothing = response.content.decode("utf-8").split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    assert all(line.startswith("data: {") and "\n" not in line for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def wire(http: httpx.Client, ask: Ask, **fields: Any) -> list[Any]:
    return events(http.post(ask.path, json={**ask.body, "stream": True, **fields}))


# --- an answer ---


def test_a_question_is_answered_to_its_end(client: OpenAI) -> None:
    answer = create(client, chat(FRANCE, max_tokens=24))
    (choice,) = answer.choices
    assert "Paris" in text_of(choice)
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert answer.usage.completion_tokens < 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_an_answer_says_how_it_was_decoded(client: OpenAI) -> None:
    answer = create(client, chat(FRANCE))
    how = answer.decoding
    assert how["strategy"] == "lookahead"
    assert how["lossless"] is True
    assert how["model_steps"] + how["steps_saved"] == answer.usage.completion_tokens
    assert 0 <= how["steps_saved"] <= how["accepted_tokens"] <= how["drafted_tokens"]
    drafted = sum(source["drafted_tokens"] for source in how["sources"].values())
    assert drafted == how["drafted_tokens"]


def test_plain_decoding_says_that_it_saved_nothing(client: OpenAI) -> None:
    answer = create(client, chat(FRANCE, **PLAINLY))
    how = answer.decoding
    assert how["model_steps"] == answer.usage.completion_tokens
    assert how["steps_saved"] == how["drafted_tokens"] == how["accepted_tokens"] == 0
    assert how["sources"] == {}
    assert how["time_to_first_token_ms"] > 0
    assert how["tokens_per_second"] > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_headers_say_which_request_and_which_strategy(http: httpx.Client, streamed: bool) -> None:
    ask = chat(FRANCE, max_tokens=8)
    headers = http.post(ask.path, json={**ask.body, "stream": streamed}).headers
    assert headers["x-request-id"]
    assert headers["x-stride-strategy"] == "lookahead"
    assert headers["x-stride-reason"]
    kind = "text/event-stream" if streamed else "application/json"
    assert headers["content-type"].startswith(kind)


@pytest.mark.parametrize("ask", [chat(FRANCE), completion(COUNTING)], ids=["chat", "completions"])
def test_a_stream_says_what_the_whole_answer_says(client: OpenAI, ask: Ask) -> None:
    whole = create(client, ask)
    chunks = list(create(client, ask, stream=True, stream_options={"include_usage": True}))
    assert texts_of_chunks(chunks) == texts(whole)
    assert finish_reason(chunks) == whole.choices[0].finish_reason
    usage, expected = (each.usage.model_dump() for each in (chunks[-1], whole))
    assert {**usage, "prompt_tokens_details": None} == {**expected, "prompt_tokens_details": None}
    said = [(how["strategy"], how["reason"]) for how in (chunks[-1].decoding, whole.decoding)]
    assert said[0] == said[1]


def test_a_stream_counts_the_steps_of_the_whole_answer(client: OpenAI) -> None:
    ask = chat(FRANCE, **PLAINLY)
    whole = create(client, ask)
    *_, last = create(client, ask, stream=True)
    assert last.decoding["model_steps"] == whole.decoding["model_steps"]


def test_the_limit_ends_an_answer(client: OpenAI) -> None:
    answer = create(client, chat(STORY, max_tokens=3))
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


# --- on the wire ---


def test_chunks_are_well_formed(http: httpx.Client) -> None:
    chunks = wire(http, chat(FRANCE), stream_options={"include_usage": True})
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    *telling, last = chunks
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0
    assert last["decoding"]["strategy"] == "lookahead"
    assert all(chunk["usage"] is None for chunk in telling)
    choices = [choice for chunk in telling for choice in chunk["choices"]]
    assert [c["delta"].get("role") for c in choices] == ["assistant"] + [None] * (len(choices) - 1)
    assert [c["finish_reason"] for c in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert choices[-1]["delta"] == {}


def test_without_the_option_no_chunk_knows_of_usage(http: httpx.Client) -> None:
    chunks = wire(http, completion(COUNTING, max_tokens=4, **PLAINLY))
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert chunks[-1]["decoding"]["model_steps"] == 4


@pytest.mark.parametrize(("stop", "shown"), [("8, 9", " 6, 7, "), (["7,", "6, 7"], " ")])
def test_a_stop_string_is_never_shown(
    http: httpx.Client, client: OpenAI, stop: str | list[str], shown: str
) -> None:
    ask = completion(COUNTING, max_tokens=16, stop=stop)
    answer = create(client, ask)
    assert texts(answer) == [shown]
    assert answer.choices[0].finish_reason == "stop"
    assert "".join(c["choices"][0]["text"] for c in wire(http, ask)) == shown


def test_what_could_have_been_a_stop_string_is_shown_in_the_end(http: httpx.Client) -> None:
    chunks = wire(http, completion(COUNTING, max_tokens=16, stop="10, 11, 12"))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == COUNTED
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_characters_of_several_tokens_arrive_whole(http: httpx.Client) -> None:
    halves = http.post("/tokenize", json={"prompt": "🙂"}).json()["tokens"]
    assert len(halves) == 2
    bias = {str(half): 100 for half in halves}
    chunks = wire(http, completion("Some smileys:", max_tokens=8, logit_bias=bias, **PLAINLY))
    shown = [chunk["choices"][0]["text"] for chunk in chunks]
    assert "".join(shown) == "🙂🙂🙂🙂"
    assert set(shown) <= {"🙂", ""}


def test_text_of_any_script_is_echoed_as_it_was(client: OpenAI) -> None:
    prompt = "Grüße 🙂 中文 \u2028 עברית é"
    answer = create(client, completion(prompt, echo=True, max_tokens=1))
    assert text_of(answer.choices[0]).startswith(prompt)


# --- completions ---


def test_a_prompt_is_a_text_a_list_or_token_ids(client: OpenAI, http: httpx.Client) -> None:
    ids = http.post("/tokenize", json={"prompt": COUNTING}).json()["tokens"]
    for prompt in (COUNTING, [COUNTING], ids, [ids]):
        assert texts(create(client, completion(prompt))) == [" 6, 7, 8, 9,"], prompt


def test_answers_to_several_prompts_are_those_to_each(client: OpenAI) -> None:
    prompts = [COUNTING, "The capital of France is", "Once upon a time"]
    alone = [create(client, completion(prompt, max_tokens=8)) for prompt in prompts]
    together = create(client, completion(prompts, max_tokens=8))
    assert texts(together) == [texts(answer)[0] for answer in alone]
    assert together.usage.prompt_tokens == sum(answer.usage.prompt_tokens for answer in alone)
    assert together.usage.completion_tokens == 24


def test_a_seed_gives_different_choices_and_the_same_set_again(client: OpenAI) -> None:
    ask = completion("Once upon a time", n=3, seed=7, temperature=1.0, max_tokens=8)
    first, second = texts(create(client, ask)), texts(create(client, ask))
    assert first == second
    assert len(set(first)) == 3


def test_token_logprobs_are_those_of_the_greedy_choice(client: OpenAI) -> None:
    answer = create(client, completion("The capital of France is", logprobs=2))
    scores = answer.choices[0].logprobs
    for token, logprob, top in zip(
        scores.tokens, scores.token_logprobs, scores.top_logprobs, strict=True
    ):
        assert max(top, key=top.get) == token
        assert top[token] == logprob <= 0
    assert "".join(scores.tokens) == text_of(answer.choices[0])


def test_chat_logprobs_are_those_of_the_greedy_choice(client: OpenAI) -> None:
    answer = create(client, chat(FRANCE, logprobs=True, top_logprobs=2, max_tokens=4))
    (choice,) = answer.choices
    assert "".join(entry.token for entry in choice.logprobs.content) == text_of(choice)
    for entry in choice.logprobs.content:
        assert entry.top_logprobs[0].token == entry.token
        assert entry.top_logprobs[0].logprob == entry.logprob


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_an_echoed_text_is_scored_as_it_was_when_it_was_generated(
    client: OpenAI, http: httpx.Client, max_tokens: int
) -> None:
    """As lm-evaluation-harness asks: token ids, the likelihood of a continuation."""
    prompt = http.post("/tokenize", json={"prompt": COUNTING}).json()["tokens"]
    generated = create(client, completion(prompt, logprobs=1, max_tokens=8)).choices[0]
    text = COUNTING + generated.text
    whole = http.post("/tokenize", json={"prompt": text}).json()["tokens"]
    assert whole[: len(prompt)] == prompt
    ask = completion(whole, echo=True, logprobs=1, max_tokens=max_tokens)
    choice = create(client, ask).choices[0]
    scores = choice.logprobs
    assert len(scores.tokens) == len(whole) + max_tokens
    assert scores.token_logprobs[0] is None
    assert scores.top_logprobs[0] is None
    echoed = scores.token_logprobs[len(prompt) : len(whole)]
    assert echoed == pytest.approx(generated.logprobs.token_logprobs, abs=0.05)
    for token, top in zip(
        scores.tokens[len(prompt) :], scores.top_logprobs[len(prompt) :], strict=True
    ):
        assert max(top, key=top.get) == token
    assert choice.text.startswith(text)
    for token, offset in zip(scores.tokens, scores.text_offset, strict=True):
        assert choice.text[offset : offset + len(token)] == token


def test_a_long_prompt_is_found_again(client: OpenAI) -> None:
    prompt = "A list: " + " ".join(f"item {number}" for number in range(40))
    first, second = (create(client, completion(prompt, max_tokens=6)) for _ in range(2))
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert 100 < cached < second.usage.prompt_tokens
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert texts(first) == texts(second)


# --- many at once ---

MIXED = [
    chat(FRANCE),
    chat(STORY, seed=1, temperature=0.9, top_p=0.9),
    chat(STORY, seed=2, temperature=1.2, extra_body={"top_k": 40}),
    chat("Hi", seed=3, temperature=0.7, presence_penalty=1.0, n=2),
    completion(COUNTING),
    completion(COUNTING, seed=4, temperature=1.0, stop=["9"]),
    completion("Once upon a time", seed=5, temperature=1.0, extra_body={"min_p": 0.02}),
    completion("Roses are red,", seed=6, temperature=0.8, frequency_penalty=0.5, n=2),
]


async def test_no_answer_depends_on_the_others_or_on_streaming(many: AsyncOpenAI) -> None:
    async def whole(ask: Ask) -> list[str]:
        return texts(await create(many, ask))

    async def streamed(ask: Ask) -> list[str]:
        return texts_of_chunks([chunk async for chunk in await create(many, ask, stream=True)])

    alone = [await whole(ask) for ask in MIXED]
    assert await asyncio.gather(*map(whole, MIXED)) == alone
    assert await asyncio.gather(*map(streamed, MIXED)) == alone


# --- leaving ---


async def metric(http: httpx.AsyncClient, name: str, **labels: str) -> float:
    return samples((await http.get("/metrics")).text).total(name, **labels)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_ends_its_work_and_nobody_elses(
    many: AsyncOpenAI, http_async: httpx.AsyncClient, streamed: bool
) -> None:
    # Plainly: a past answer would be copied, and over before anybody leaves.
    bystander = chat(STORY, max_tokens=256, **PLAINLY)
    alone = texts(await create(many, bystander))
    cancelled = await metric(http_async, "stride_requests_cancelled_total")

    staying = await create(many, bystander, stream=True)
    chunks = [await anext(staying)]
    endless = chat(STORY, max_tokens=4000, extra_body={"ignore_eos": True})
    leaving = asyncio.create_task(create(many, endless, stream=streamed))

    async def running(number: int) -> bool:
        return await metric(http_async, "stride_requests_running") == number

    await until(lambda: running(2))
    if streamed:
        await (await leaving).close()
    else:
        leaving.cancel()
    await until(lambda: running(1))
    chunks += [chunk async for chunk in staying]
    assert texts_of_chunks(chunks) == alone
    await until(lambda: running(0))
    assert await metric(http_async, "stride_requests_cancelled_total") == cancelled + 1


# --- answers in points ---

LIST = "What are the benefits of regular exercise?"
IN_POINTS = {"extra_body": {"decoding": {"strategy": "skeleton"}}}


def test_the_points_of_a_list_question_come_in_order(client: OpenAI) -> None:
    ask = chat(LIST, max_tokens=300, **IN_POINTS)
    answer = create(client, ask)
    lines = texts(answer)[0].splitlines()
    assert len(lines) >= 3
    assert [line.split(".")[0] for line in lines] == [str(n + 1) for n in range(len(lines))]
    assert all(": " in line for line in lines)
    chunks = list(create(client, ask, stream=True))
    assert texts_of_chunks(chunks) == texts(answer)
    decoding = answer.model_extra["decoding"]
    assert decoding["steps_saved"] > 0
    assert decoding["branches"]["count"] == 1 + len(lines)
    assert answer.usage.completion_tokens > decoding["model_steps"]


def test_the_limit_and_stop_strings_hold_for_all_points_together(client: OpenAI) -> None:
    whole = texts(create(client, chat(LIST, max_tokens=300, **IN_POINTS)))[0]
    short = create(client, chat(LIST, max_tokens=40, **IN_POINTS))
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 40
    assert whole.startswith(texts(short)[0])
    stopped = create(client, chat(LIST, max_tokens=300, stop=["\n3."], **IN_POINTS))
    assert stopped.choices[0].finish_reason == "stop"
    assert texts(stopped)[0] == whole.partition("\n3.")[0]


async def test_a_client_that_leaves_ends_all_branches(
    many: AsyncOpenAI, http_async: httpx.AsyncClient
) -> None:
    stream = await create(many, chat(LIST, max_tokens=300, **IN_POINTS), stream=True)
    await anext(stream)
    await stream.close()

    async def nothing_runs() -> bool:
        return await metric(http_async, "stride_requests_running") == 0

    await until(nothing_runs)


# --- errors ---


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("ask", "status", "param", "code", "says"),
    [
        (chat("Hi", model="gpt-9"), 404, "model", "model_not_found", ["gpt-9"]),
        (
            chat("Hi", max_tokens=9000),
            400,
            "messages",
            "context_length_exceeded",
            ["8192", "9000"],
        ),
        (completion("a " * 9000), 400, "prompt", "context_length_exceeded", ["8192", "9001"]),
        (chat("Hi", tools=[TOOL]), 400, "tools", None, ["tools"]),
        (completion([99_999]), 400, "prompt", None, ["99999", "49152"]),
        (chat("Hi", temperature=9), 400, "temperature", None, ["temperature"]),
        (chat("Hi", bogus=1), 400, "bogus", None, ["bogus"]),
    ],
)
def test_a_refusal_has_its_status_before_any_event(
    http: httpx.Client,
    ask: Ask,
    status: int,
    param: str,
    code: str | None,
    says: list[str],
    streamed: bool,
) -> None:
    response = http.post(ask.path, json={**ask.body, "stream": streamed})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (param, code)
    assert all(word in error["message"] for word in says), error["message"]


@pytest.mark.parametrize("content", [b"", b'{"model":', b"[]", b'{"model": NaN}', b'"\xff"'])
def test_malformed_json_is_refused_and_the_server_goes_on(
    http: httpx.Client, content: bytes
) -> None:
    headers = {"content-type": "application/json"}
    response = http.post(CHAT, content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    ask = completion(COUNTING, max_tokens=2)
    assert http.post(ask.path, json=ask.body).json()["choices"][0]["text"] == " 6"


def test_the_client_raises_what_it_raises_for_openai(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "x"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, chat("Hi", tools=[TOOL]))
    assert refused.value.param == "tools"


# --- metrics ---


class Samples(NamedTuple):
    """What one scrape of the metrics says."""

    values: list[tuple[str, dict[str, str], float]]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric over all labels but the given ones."""
        found = [v for n, has, v in self.values if n == name and labels.items() <= has.items()]
        assert found, name
        return sum(found)


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return Samples([(s.name, s.labels, s.value) for each in families for s in each.samples])


def test_counters_are_what_the_client_saw(client: OpenAI, http: httpx.Client) -> None:
    before = samples(http.get("/metrics").text)
    asks = [chat(FRANCE), completion([COUNTING, "Roses"]), completion("x", n=2, temperature=1)]
    seen = [create(client, ask) for ask in asks]
    stream = create(client, asks[0], stream=True, stream_options={"include_usage": True})
    seen.append(list(stream)[-1])
    with pytest.raises(openai.NotFoundError):
        client.models.with_raw_response.retrieve("gpt-9")
    with pytest.raises(openai.BadRequestError):
        create(client, chat("Hi", tools=[TOOL]))
    after = samples(http.get("/metrics").text)

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    assert grown("stride_generation_tokens_total") == sum(a.usage.completion_tokens for a in seen)
    assert grown("stride_prompt_tokens_total") == sum(a.usage.prompt_tokens for a in seen)
    assert grown("stride_decode_steps_total") == sum(a.decoding["model_steps"] for a in seen)
    assert grown("stride_requests_total", status="200") == len(seen)
    assert grown("stride_requests_total", status="200", endpoint="chat") == 2
    assert grown("stride_request_duration_seconds_count") == len(seen)
    assert grown("stride_time_to_first_token_seconds_count") == len(seen)
    assert grown("stride_requests_rejected_total", reason="invalid") == 2
    assert grown("stride_requests_cancelled_total") == 0
    for gauge in ("requests_running", "requests_waiting", "kv_cache_usage_ratio"):
        assert after.total(f"stride_{gauge}") == 0
    assert after.total("stride_ready") == 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stride_generation_tokens_total", "vllm:generation_tokens_total"),
        ("stride_prompt_tokens_total", "vllm:prompt_tokens_total"),
        ("stride_requests_running", "vllm:num_requests_running"),
        ("stride_requests_waiting", "vllm:num_requests_waiting"),
        ("stride_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"),
        ("stride_prefix_cache_hits_tokens_total", "vllm:prefix_cache_hits_total"),
        ("stride_time_to_first_token_seconds_sum", "vllm:time_to_first_token_seconds_sum"),
        ("stride_request_duration_seconds_count", "vllm:e2e_request_latency_seconds_count"),
        ("stride_requests_rejected_total", "vllm:admission_rejections_total"),
    ],
)
def test_an_alias_equals_its_source(http: httpx.Client, ours: str, theirs: str) -> None:
    scrape = samples(http.get("/metrics").text)
    assert scrape.total(theirs) == scrape.total(ours)


def test_successes_have_their_alias(http: httpx.Client) -> None:
    scrape = samples(http.get("/metrics").text)
    ours = scrape.total("stride_requests_total", status="200")
    assert scrape.total("vllm:request_success_total") == ours


# --- the other pages ---


def test_the_model_is_listed_and_described(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == MODEL
    assert client.models.retrieve(MODEL) == model
    assert model.model_dump()["max_model_len"] == 8192


def test_text_survives_tokenizing_and_back(http: httpx.Client) -> None:
    text = "Grüße 🙂 中文\n\tend"
    tokens = http.post("/tokenize", json={"model": MODEL, "prompt": text}).json()
    assert tokens["count"] == len(tokens["tokens"])
    back = http.post("/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert back == {"prompt": text}


def test_tokenized_messages_are_the_prompt_of_a_chat(client: OpenAI, http: httpx.Client) -> None:
    ask = chat(FRANCE, max_tokens=1)
    counted = http.post("/tokenize", json={"messages": ask.fields["messages"]}).json()["count"]
    assert create(client, ask).usage.prompt_tokens == counted


@pytest.mark.parametrize(
    ("path", "says"),
    [("/health", {"status": "ok"}), ("/ready", {"status": "ready"}), ("/version", None)],
)
def test_pages_for_operators(http: httpx.Client, path: str, says: dict[str, str] | None) -> None:
    response = http.get(path)
    assert response.status_code == 200
    assert says is None or response.json() == says


def test_nothing_listens_but_what_was_asked_for(real_server: ServerProcess) -> None:
    """And what the processes share has no name, by which it could be found or would stay."""
    processes = [real_server.process, *real_server.children]
    connections = [each for process in processes for each in process.net_connections("all")]
    listening = {each.laddr for each in connections if each.status == psutil.CONN_LISTEN}
    assert {f"http://{ip}:{port}" for ip, port in listening} == {real_server.url}
    between = [each for each in connections if each.family == socket.AF_UNIX]
    assert {each.laddr for each in between} == {""}
    assert {each.type for each in connections} == {socket.SOCK_STREAM}
    maps = (each.path for process in processes for each in process.memory_maps())
    assert [path for path in maps if path.startswith("/dev/shm")] == []


def test_the_summary_says_where_to_ask(real_server: ServerProcess) -> None:
    assert "Stride is ready" in real_server.log
    assert f"curl {real_server.url}/v1/chat/completions" in real_server.log
    assert "Loading weights" not in real_server.log


def test_the_cost_of_a_forward_is_learned_while_serving(client: OpenAI, http: httpx.Client) -> None:
    client.completions.create(model=MODEL, prompt="One, two,", max_tokens=80, temperature=0)
    page = http.get("/metrics").text
    assert 'stride_forward_cost_seconds{tokens="8"}' in page
    assert "stride_forward_cost_median_error_ratio" in page
