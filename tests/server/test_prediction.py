"""A prediction is text to copy from: it reaches the engine, and changes nothing else."""

from collections.abc import Iterable

import httpx
import pytest
from asking import ENDPOINTS, Endpoint, answer, stream
from conftest import Build, connect
from fakes import CONTEXT, MODEL, FakeEngine, Script
from openai import AsyncOpenAI
from transformers import PreTrainedTokenizerFast

from decoding.request import Output, Reference, Request
from server.limits import Limits


def expecting(content: object) -> dict[str, object]:
    return {"prediction": {"type": "content", "content": content}}


@pytest.mark.parametrize("content", ["Hello", [{"type": "text", "text": t} for t in ("Hel", "lo")]])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_prediction_is_a_reference(
    http: httpx.AsyncClient,
    engine: FakeEngine,
    tokenizer: PreTrainedTokenizerFast,
    endpoint: Endpoint,
    content: object,
) -> None:
    await answer(http, endpoint)
    await answer(http, endpoint, **expecting(content))
    tokens = tuple(tokenizer("Hello").input_ids)
    assert engine.request.references == (Reference("prediction", tokens, likeness=1.0),)
    assert engine.request.prompt == engine.requests[0].prompt


async def test_the_openai_client_sends_a_prediction(
    openai: AsyncOpenAI, engine: FakeEngine
) -> None:
    completion = await openai.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hi"}],
        prediction={"type": "content", "content": "Hello"},
    )
    assert completion.choices[0].message.content == "Hello there"
    assert [found.source for found in engine.request.references] == ["prediction"]


@pytest.mark.parametrize("content", ["", [{"type": "text", "text": ""}]])
async def test_an_empty_prediction_is_none(
    http: httpx.AsyncClient, engine: FakeEngine, content: object
) -> None:
    await answer(http, **expecting(content))
    assert engine.request.references == ()


async def test_every_prompt_has_the_prediction(http: httpx.AsyncClient, engine: FakeEngine) -> None:
    await answer(http, "completions", prompt=["a", [5]], **expecting("Hello"))
    first, second = engine.requests
    assert first.references == second.references != ()


async def test_control_tokens_in_a_prediction_are_text(
    http: httpx.AsyncClient, engine: FakeEngine, tokenizer: PreTrainedTokenizerFast
) -> None:
    await answer(http, **expecting("a<|im_end|>b"))
    (prediction,) = engine.request.references
    assert tokenizer.decode(prediction.tokens) == "a<|im_end|>b"
    assert max(prediction.tokens) < 257


@pytest.mark.parametrize("length", [CONTEXT + 1, 30_000, 2_000_000])
async def test_a_prediction_is_cut_to_the_context(
    http: httpx.AsyncClient, engine: FakeEngine, length: int
) -> None:
    await answer(http, **expecting("x" * length))
    (prediction,) = engine.request.references
    assert len(prediction.tokens) == CONTEXT


async def test_the_prediction_comes_before_the_documents(build: Build, engine: FakeEngine) -> None:
    async with connect(build(limits=Limits(reference_tokens=8))) as http:
        fields = {"documents": ["abcdef"], "documents_in_prompt": False}
        await answer(http, **fields, **expecting("Hello"))
    assert [(f.source, len(f.tokens)) for f in engine.request.references] == [
        ("prediction", 5),
        ("document", 3),
    ]


# --- what is counted ---


def saying(*tokens: int) -> Script:
    """Every choice says these tokens, one a step."""

    def script(request: Request) -> Iterable[Output]:
        for index in range(request.n):
            for token in tokens:
                yield Output(request_id=request.id, index=index, tokens=(token,), steps=1)
            yield Output(request_id=request.id, index=index, finish_reason="length")

    return script


async def prediction_tokens(http: httpx.AsyncClient, **fields: object) -> tuple[int, int]:
    body = await answer(http, **fields)
    details = body["usage"]["completion_tokens_details"]
    return details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("A cat sat on a mat.", (19, 0)),
        ("A cat", (5, 14)),  # the rest did not appear
        ("A cut sat on a mat.", (18, 1)),
        ("XYZXYZ", (0, 19)),
    ],
)
async def test_tokens_of_the_prediction_that_appeared_are_counted(
    http: httpx.AsyncClient,
    engine: FakeEngine,
    tokenizer: PreTrainedTokenizerFast,
    said: str,
    counts: tuple[int, int],
) -> None:
    engine.script = saying(*tokenizer(said).input_ids)
    assert await prediction_tokens(http, **expecting("A cat sat on a mat.")) == counts


async def test_choices_are_counted_together(
    http: httpx.AsyncClient, engine: FakeEngine, tokenizer: PreTrainedTokenizerFast
) -> None:
    engine.script = saying(*tokenizer("Good day").input_ids)
    assert await prediction_tokens(http, n=3, **expecting("Good day")) == (24, 0)


async def test_the_last_chunk_of_a_stream_has_the_counts(
    http: httpx.AsyncClient, engine: FakeEngine, tokenizer: PreTrainedTokenizerFast
) -> None:
    engine.script = saying(*tokenizer("Good").input_ids)
    events = await stream(http, stream_options={"include_usage": True}, **expecting("Good bye"))
    details = events[-2]["usage"]["completion_tokens_details"]
    assert (details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]) == (4, 4)


async def test_without_a_prediction_nothing_is_counted(http: httpx.AsyncClient) -> None:
    assert await prediction_tokens(http) == (0, 0)


async def test_a_prediction_chooses_reference_copy(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    body = await answer(http, **expecting("Hello"))
    assert body["decoding"]["strategy"] == engine.request.strategy == "reference"
    assert body["decoding"]["reason"] == "the request predicts the answer"
