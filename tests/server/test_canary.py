"""Whatever is asked, and however it is refused: the next one is answered as if it had not been."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from asking import ENDPOINTS, PATHS, Endpoint, ask, error_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import JSON, MALFORMED, REFUSALS, named
from tiny_service import PATIENCE, TinyService, permits, tiny_service

from decoding import strategies

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TinyService]:
    async with tiny_service(tmp_path_factory.mktemp("tiny")) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def canary(service: TinyService, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Sings after the test what it sang before any, in the same process, and nothing is left."""
    processes = service.processes()
    yield
    async with asyncio.timeout(PATIENCE):
        assert await service.sing() == service.song
    assert service.processes() == processes
    assert permits(service.app).requests == 0
    await service.wait_until_idle()
    assert "Traceback" not in caplog.text


def rejections(service: TinyService) -> float:
    return service.total("stride_requests_rejected_total", reason="invalid")


def assert_refused(service: TinyService, response: httpx.Response, before: float) -> None:
    assert response.status_code == 400, response.text
    assert len(error_of(response)["message"]) < 500
    assert rejections(service) == before + 1


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize(("endpoint", "field", "value", "param"), REFUSALS, ids=named)
async def test_a_refused_request_harms_nobody(
    service: TinyService, endpoint: Endpoint, field: str, value: object, param: str
) -> None:
    before = rejections(service)
    response = await ask(service.http, endpoint, **{field: value})
    assert_refused(service, response, before)
    assert error_of(response)["param"] == param


@pytest.mark.usefixtures("canary")
@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_body_harms_nobody(service: TinyService, content: bytes) -> None:
    before = rejections(service)
    response = await service.http.post(PATHS["completions"], content=content, headers=JSON)
    assert_refused(service, response, before)


# --- everything with everything ---

WORDS = [{"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "json_schema": {}}]
PROMPTS = ["hi", "List three fruits.", "abc abc abc abc abc abc", "é\u0301 \u200d\n\n"]
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "decoding": st.sampled_from([{"strategy": each} for each in ("auto", *strategies.names())]),
    "n": st.integers(1, 3),
    "stream": st.booleans(),
    "temperature": st.sampled_from([0, 1e-9, 0.7, 2]),
    "top_p": st.sampled_from([1e-9, 0.5, 1]),
    "top_k": st.sampled_from([-1, 1, 5, 2**31 - 1]),
    "min_p": st.sampled_from([0, 0.5, 1]),
    "presence_penalty": st.sampled_from([-2, 0, 2]),
    "frequency_penalty": st.sampled_from([-2, 0, 2]),
    "repetition_penalty": st.sampled_from([0.01, 1, 10]),
    "logit_bias": st.sampled_from([{}, {"65": 100}, {"65": -100, "259": 100}]),
    "seed": st.sampled_from([0, -1, 2**64 - 1]),
    "stop": st.sampled_from(["e", ["a", "\n"], "\u0301", []]),
    "stop_token_ids": st.sampled_from([[], [65], [259]]),
    "min_tokens": st.sampled_from([0, 0, 2]),
    "ignore_eos": st.booleans(),
    "documents": st.sampled_from([[], ["abc abc"]]),
    "prediction": st.just({"type": "content", "content": "abc abc"}),
    "response_format": st.sampled_from([WORDS[0], *WORDS]),
}


@st.composite
def asks(draw: st.DrawFn) -> tuple[Endpoint, dict[str, object]]:
    """A request with any of the fields that shape an answer."""
    endpoint = draw(st.sampled_from(ENDPOINTS))
    fields = draw(st.fixed_dictionaries({"max_tokens": st.integers(1, 12)}, optional=FIELDS))
    prompt = draw(st.sampled_from(PROMPTS))
    if endpoint == "chat":
        scored = draw(st.sampled_from([None, 0, 5, 20]))
        scores = {} if scored is None else {"logprobs": True, "top_logprobs": scored}
        return endpoint, {**fields, **scores, "messages": [{"role": "user", "content": prompt}]}
    scores = draw(st.fixed_dictionaries({}, optional={"logprobs": st.sampled_from([0, 5, 20])}))
    echo = draw(st.booleans())
    return endpoint, {**fields, **scores, "prompt": prompt, "echo": echo}


def is_refused(fields: dict[str, object]) -> bool:
    """What cannot be given: other formats, and of an answer in points what needs it whole."""
    whole = ("logprobs", "min_tokens", "ignore_eos", "stop_token_ids", "prediction", "echo")
    needs_whole = any(fields.get(name) not in (None, False, [], 0) for name in whole)
    in_points = fields.get("decoding") == {"strategy": "skeleton"}
    too_many = int(str(fields.get("min_tokens", 0))) > int(str(fields["max_tokens"]))
    is_scored = "logprobs" in fields  # 0 asks for the chosen tokens' own
    is_text = fields.get("response_format", WORDS[0]) == WORDS[0]
    return not is_text or too_many or (in_points and (needs_whole or is_scored))


def assert_answered(response: httpx.Response, fields: dict[str, object]) -> None:
    assert response.status_code == 200, response.text
    if fields.get("stream"):
        assert response.text.endswith("data: [DONE]\n\n"), response.text
        assert '"error"' not in response.text
        return
    choices = response.json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(int(str(fields.get("n", 1)))))
    assert {choice["finish_reason"] for choice in choices} <= {"stop", "length"}


@pytest.mark.usefixtures("canary")
@settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(together=st.tuples(asks(), asks(), asks()))
async def test_every_field_goes_with_every_strategy_or_is_refused(
    service: TinyService, together: tuple[tuple[Endpoint, dict[str, object]], ...]
) -> None:
    """Three hundred requests, three at a time, and the worker is none the worse."""
    asked = (ask(service.http, endpoint, **fields) for endpoint, fields in together)
    async with asyncio.timeout(PATIENCE):
        responses = await asyncio.gather(*asked)
    for (_, fields), response in zip(together, responses, strict=True):
        if is_refused(fields):
            assert response.status_code == 400, response.text
            error_of(response)
        else:
            assert_answered(response, fields)
