"""The app over a scripted engine, reached without a socket."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import httpx
import pytest
from fakes import ALIAS, MODEL, FakeEngine, byte_tokenizer
from fastapi import FastAPI
from openai import AsyncOpenAI
from scripted_upstream import Front, ScriptedUpstream, running
from transformers import PreTrainedTokenizerFast

from server.admission import Caps
from server.app import create_app
from server.history import History
from server.limits import Limits
from server.metrics import Metrics
from server.scheduler import DEFAULT_POLICY, Policy
from server.tracing import Traces


class Build(Protocol):
    """Builds the app with other collaborators than the usual ones."""

    def __call__(
        self,
        *,
        api_keys: Sequence[str] = (),
        limits: Limits | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
        history: History | None = None,
        policy: Policy = DEFAULT_POLICY,
        caps: Caps | None = None,
        traces: Traces | None = None,
    ) -> FastAPI: ...


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(MODEL)


@pytest.fixture
def build(engine: FakeEngine, metrics: Metrics, tokenizer: PreTrainedTokenizerFast) -> Build:
    usual = tokenizer

    def build_app(
        *,
        api_keys: Sequence[str] = (),
        limits: Limits | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
        history: History | None = None,
        policy: Policy = DEFAULT_POLICY,
        caps: Caps | None = None,
        traces: Traces | None = None,
    ) -> FastAPI:
        return create_app(
            engine=engine,
            tokenizer=tokenizer or usual,
            model_names=[MODEL, ALIAS],
            metrics=metrics,
            history=history,
            policy=policy,
            caps=caps,
            api_keys=api_keys,
            limits=limits,
            traces=traces,
        )

    return build_app


@pytest.fixture
def app(build: Build) -> FastAPI:
    return build()


def connect(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(app) as client:
        yield client


@pytest.fixture
async def openai(http: httpx.AsyncClient) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url="http://test/v1",
        api_key="unused",
        http_client=http,  # type: ignore[arg-type, unused-ignore]  # newer releases name a fork
        max_retries=0,
    )


@pytest.fixture
def metric(metrics: Metrics) -> Callable[..., float]:
    """The value of one sample, 0 when it has not appeared."""

    def value(name: str, **labels: str) -> float:
        return metrics.registry.get_sample_value(name, labels) or 0.0

    return value


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream on a real port."""
    async with running(ScriptedUpstream()) as upstream:
        yield upstream


@pytest.fixture
async def front(upstream: ScriptedUpstream) -> AsyncIterator[Front]:
    """A server over it."""
    front = Front(upstream)
    yield front
    await front.upstream.leave()
