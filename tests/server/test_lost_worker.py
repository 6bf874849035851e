"""A worker is killed with requests in its hands: what their clients see of it, over HTTP."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from asking import ask
from conftest import connect
from fakes import MODEL
from scripted_pool import PATIENCE, Pool, running
from transformers import PreTrainedTokenizerFast

from server.admission import Admission
from server.app import create_app
from server.engine_client import Load
from server.metrics import Metrics

Metric = Callable[..., float]
OUTCOME = {"model": MODEL, "strategy": "lookahead", "endpoint": "completions"}


@pytest.mark.slow
async def test_of_eight_requests_only_the_streams_hear_that_a_worker_was_killed(
    metrics: Metrics, metric: Metric, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Whole answers are begun again; every permit comes back, and what is counted goes on."""
    async with running(1, "kill@400") as pool, asyncio.timeout(PATIENCE):
        app = create_app(
            engine=pool.workers, tokenizer=tokenizer, model_names=[MODEL], metrics=metrics
        )
        admission: Admission = app.state.services.admission
        async with connect(app) as http:
            kinds = [number < 4 for number in range(8)]
            answers = await asyncio.gather(
                *(ask(http, "completions", max_tokens=150, stream=kind) for kind in kinds)
            )
            assert [_outcome(answer) for answer in answers] == ["engine_died"] * 4 + [150] * 4
            assert (admission.requests, pool.workers.load) == (0, Load())
            assert _counted(pool, metric) == {"200": 4, "503": 4, "lost": 4, "repeated": 4}
            before = metric("stride_generation_tokens_total", **_labels())
            assert before > 4 * 150
            assert (await ask(http, "completions", max_tokens=5)).status_code == 200
            assert metric("stride_generation_tokens_total", **_labels()) == before + 5


def _outcome(answer: httpx.Response) -> object:
    """How many tokens came, or the code of the error that ended a stream."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("application/json"):
        return answer.json()["usage"]["completion_tokens"]
    *_, last = answer.text.removesuffix("\n\n").split("\n\n")
    return json.loads(last.removeprefix("data: "))["error"]["code"]


def _counted(pool: Pool, metric: Metric) -> Counter[str]:
    return Counter(
        {
            "200": metric("stride_requests_total", **OUTCOME, status="200", finish_reason="length"),
            "503": metric("stride_requests_total", **OUTCOME, status="503", finish_reason="error"),
            "lost": pool.metric("stride_in_flight_lost_total"),
            "repeated": pool.metric("stride_in_flight_repeated_total"),
        }
    )


def _labels() -> dict[str, str]:
    return {"model": MODEL, "strategy": "lookahead"}
