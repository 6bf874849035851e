"""Requests answered in points: what reaches the engine, what comes back, what is refused."""

import asyncio
from collections.abc import Iterable, Sequence

import httpx
import pytest
from asking import Endpoint, answer, ask, error_of, stream
from conftest import Build
from fakes import MODEL, FakeEngine, Script, byte_tokenizer, engine_info, hanging
from starlette.testclient import TestClient

from decoding.request import BranchCounts, Decoder, Output, Request
from server.metrics import Metrics
from server.scheduler import Policy

LIST = [{"role": "user", "content": "What are the benefits of regular exercise?"}]
BY_SKELETON = {"strategy": "skeleton"}
ANSWER = "1. Health: Good.\n2. Joy: More.\n3. Sleep: Deep."


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(info=engine_info(context_length=4000), script=in_points())


def in_points(*pieces: str, fallback: str | None = None) -> Script:
    """Says the pieces one a step; before, it may have had to fall back."""

    def script(request: Request) -> Iterable[Output]:
        texts = pieces or tuple(ANSWER.splitlines(keepends=True))
        if fallback is not None:
            counts = BranchCounts(branches=1, prompt_tokens=90, cached_tokens=64, hidden_tokens=9)
            yield Output(request_id=request.id, steps=5, fallback=fallback, branches=counts)
        for number, text in enumerate(texts):
            yield Output(
                request_id=request.id,
                text=text,
                tokens=tuple(text.encode()),
                steps=1,
                branches=BranchCounts(2, 100, 80, 3) if number == 0 and not fallback else None,
                finish_reason="stop" if number == len(texts) - 1 else None,
            )

    return script


def texts(pieces: Sequence[tuple[int, ...] | str]) -> list[str]:
    """A stage as text, with the names of its fields in braces."""
    decode = byte_tokenizer().decode
    return [f"{{{each}}}" if isinstance(each, str) else str(decode(each)) for each in pieces]


async def test_a_list_question_is_answered_in_points_without_a_hint(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    response = await ask(http, messages=LIST)
    assert response.headers["x-stride-strategy"] == "skeleton"
    assert response.headers["x-stride-reason"].startswith("the question asks for points")
    content = response.json()
    assert content["choices"][0]["message"]["content"] == ANSWER
    assert content["decoding"]["strategy"] == "skeleton"
    assert content["decoding"]["lossless"] is False
    assert "fallback" not in content["decoding"]
    assert engine.request.strategy == "skeleton"
    assert engine.request.fallback == Decoder("lookahead")


async def test_the_engine_gets_the_prompts_of_both_stages(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    await ask(http, messages=[{"role": "system", "content": "Be kind."}, *LIST])
    outline, point = (texts(engine.request.stages[stage]) for stage in ("outline", "point"))
    assert "".join(outline).startswith("<|im_start|>system\nBe kind.<|im_end|>")
    assert "".join(outline).count(LIST[0]["content"]) == 1
    assert {"{outline}", "{number}", "{heading}", "{lead}"} <= set(point)
    assert point[-1] == "{lead}"


async def test_branches_are_counted_in_the_answer_and_in_the_metrics(
    http: httpx.AsyncClient, metrics: Metrics
) -> None:
    content = await answer(http, messages=LIST)
    assert content["decoding"]["branches"] == {
        "count": 2,
        "prompt_tokens": 100,
        "shared_prompt_tokens": 80,
        "hidden_tokens": 3,
    }
    shown = metrics.render().decode()
    labels = f'{{model="{MODEL}",strategy="skeleton"}}'
    assert f"stride_branch_prompt_tokens_total{labels} 100.0" in shown
    assert f"stride_branch_shared_tokens_total{labels} 80.0" in shown
    assert (
        f'stride_strategy_choices_total{{cause="points",model="{MODEL}",strategy="skeleton"}} 1.0'
        in shown
    )


async def test_an_answer_that_fell_back_says_so_and_is_lossless(
    http: httpx.AsyncClient, engine: FakeEngine, metrics: Metrics
) -> None:
    reason = "the outline has fewer than 3 points"
    engine.script = in_points("Plain.", fallback=reason)
    response = await ask(http, messages=LIST)
    assert response.headers["x-stride-strategy"] == "lookahead"
    decoding = response.json()["decoding"]
    assert decoding["strategy"] == "lookahead"
    assert decoding["reason"].startswith(f"{reason}, and nothing is known")
    assert decoding["lossless"] is True
    assert decoding["fallback"] == {"choices": 1, "strategy": "lookahead", "reason": reason}
    assert decoding["model_steps"] == 6
    shown = metrics.render().decode()
    labels = f'fallback="lookahead",model="{MODEL}",strategy="skeleton"'
    assert f"stride_strategy_fallbacks_total{{{labels}}} 1.0" in shown


async def test_the_headers_of_a_stream_know_of_a_fallback(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.script = in_points("Plain.", fallback="no outline")
    response = await ask(http, messages=LIST, stream=True)
    assert response.headers["x-stride-strategy"] == "lookahead"


async def test_a_stream_shows_the_points_as_they_come(http: httpx.AsyncClient) -> None:
    events = await stream(http, messages=LIST)
    deltas = [event["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert [each for each in deltas if each] == ANSWER.splitlines(keepends=True)


async def test_a_text_completion_is_answered_in_points_too(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    prompt = "What are the benefits of regular exercise?"
    response = await ask(http, "completions", prompt=prompt, max_tokens=300)
    assert response.headers["x-stride-strategy"] == "skeleton"
    outline = "".join(texts(engine.request.stages["outline"]))
    assert outline.endswith(f"{prompt}\n1.")
    assert "<|im_start|>" not in outline


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"n": 2},
        {"logprobs": True},
        {"logit_bias": {"5": 1}},
        {"stop": "x"},
        {"prediction": {"type": "content", "content": "It is healthy."}},
        {"documents": ["Exercise is healthy."]},
        {"decoding": {"lossless": True}},
        {"decoding": {"budget": True}},
        {"max_tokens": 100},
        {"min_tokens": 5},
        {"ignore_eos": True},
        {"messages": [*LIST, {"role": "assistant", "content": "Well,"}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_no_answer_is_changed_that_a_request_pins_down(
    http: httpx.AsyncClient, engine: FakeEngine, fields: dict[str, object]
) -> None:
    response = await ask(http, **{"messages": LIST, **fields})
    assert response.status_code == 200, response.text
    assert response.headers["x-stride-strategy"] != "skeleton"
    assert engine.request.stages == {}


@pytest.mark.parametrize(
    ("endpoint", "fields", "param"),
    [
        ("chat", {"logprobs": True}, "logprobs"),
        ("completions", {"logprobs": 0}, "logprobs"),
        ("completions", {"echo": True}, "echo"),
        ("chat", {"min_tokens": 1}, "min_tokens"),
        ("chat", {"ignore_eos": True}, "ignore_eos"),
        ("chat", {"stop_token_ids": [3]}, "stop_token_ids"),
        ("chat", {"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ("chat", {"decoding": {"budget": True}}, "decoding.budget"),
        ("chat", {"decoding": {"lossless": True}}, "decoding.lossless"),
        (
            "chat",
            {"messages": [*LIST, {"role": "assistant", "content": "Well,"}]},
            "messages",
        ),
    ],
)
async def test_what_an_answer_in_points_cannot_give_is_refused_by_name(
    http: httpx.AsyncClient,
    engine: FakeEngine,
    endpoint: Endpoint,
    fields: dict[str, dict[str, object]],
    param: str,
) -> None:
    decoding = {**BY_SKELETON, **fields.pop("decoding", {})}
    response = await ask(http, endpoint, **fields, decoding=decoding)
    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert engine.requests == []


async def test_what_can_be_given_for_the_whole_answer_is_passed_on(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    response = await ask(http, decoding={**BY_SKELETON, "points": 4}, seed=3, stop=["x"])
    assert response.status_code == 200
    assert engine.request.options == {"points": 4}
    assert engine.request.sampling.seed == 3
    assert engine.request.stopping.stop == ("x",)


@pytest.mark.parametrize("points", [2, 11, "five"])
async def test_an_option_out_of_its_limits_is_refused(
    http: httpx.AsyncClient, points: object
) -> None:
    response = await ask(http, decoding={**BY_SKELETON, "points": points})
    assert response.status_code == 400
    assert error_of(response)["param"] == "decoding.points"


def test_a_server_for_lossless_answers_gives_no_others(build: Build, engine: FakeEngine) -> None:
    with TestClient(build(policy=Policy(lossless_only=True))) as http:
        picked = http.post("/v1/chat/completions", json={"model": MODEL, "messages": LIST})
        assert picked.headers["x-stride-strategy"] == "lookahead"
        body = {"model": MODEL, "messages": LIST, "decoding": BY_SKELETON}
        refused = http.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "decoding.strategy"


async def test_beside_many_requests_none_is_answered_in_points(
    build: Build, engine: FakeEngine
) -> None:
    app = build(policy=Policy(skeleton_beside=1))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stride") as http:
        engine.script = hanging("…")
        first = asyncio.create_task(ask(http, messages=LIST))
        await engine.started.wait()
        engine.script = in_points()
        assert (await ask(http, messages=LIST)).headers["x-stride-strategy"] == "lookahead"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await ask(http, messages=LIST)).headers["x-stride-strategy"] == "skeleton"


def test_a_chat_template_that_cannot_word_the_stages_leaves_the_choice_to_others(
    build: Build, engine: FakeEngine
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    with TestClient(build(tokenizer=tokenizer)) as http:
        picked = http.post("/v1/chat/completions", json={"model": MODEL, "messages": LIST})
        assert picked.status_code == 200, picked.text
        assert picked.headers["x-stride-strategy"] == "lookahead"
        body = {"model": MODEL, "messages": LIST, "decoding": BY_SKELETON}
        assert http.post("/v1/chat/completions", json=body).status_code == 400
