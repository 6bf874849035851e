"""What /metrics shows: present from the start, equal to what clients saw, closed label sets."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from asking import ask
from fakes import MODEL, FakeEngine, dying, said
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from decoding.report import Drafting, Pace, StepReport
from decoding.request import Decision, Output, SourceCounts
from server.engine_client import Load
from server.loop_lag import SECONDS_BETWEEN_LOOKS, watching
from server.metrics import Metrics
from server.worker_metrics import WorkerState

Metric = Callable[..., float]
MINE = {"model": MODEL, "strategy": "lookahead"}
BEFORE_FIRST_TOKEN = ("admission", "queue", "prefill")
DOCUMENTED = [
    *("requests_total", "requests_rejected_total", "requests_cancelled_total"),
    *("requests_running", "requests_waiting", "time_to_first_token_seconds_count"),
    *("inter_token_latency_seconds_count", "time_per_output_token_seconds_count"),
    *("request_duration_seconds_count", "queue_time_seconds_count", "prompt_tokens_total"),
    *("generation_tokens_total", "discarded_tokens_total", "decode_steps_total", "drafts_total"),
    *("draft_tokens_total", "accepted_tokens_total", "accepted_tokens_per_step_count"),
    *("steps_saved_total", "batch_size_count", "step_duration_seconds_count"),
    *("kv_cache_usage_ratio", "prefix_cache_queries_tokens_total"),
    *("prefix_cache_hits_tokens_total", "preemptions_total", "ready", "bit_exact", "build_info"),
    *("draft_budget_proposed_tokens_total", "draft_budget_granted_tokens_total"),
    *("draft_budget_expected_tokens_total", "draft_budget_least_chance"),
    *("draft_resting_steps_total", "draft_time_seconds_total", "verify_time_seconds_total"),
    *("admission_time_seconds_count", "prefill_time_seconds_count", "decode_time_seconds_count"),
    *("accepted_tokens_per_position_total", "event_loop_lag_seconds_count"),
]
VLLM_NAMES = [
    *("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"),
    *("prefix_cache_queries_total", "prefix_cache_hits_total", "prompt_tokens_total"),
    *("generation_tokens_total", "request_success_total", "admission_rejections_total"),
    *("time_to_first_token_seconds_count", "inter_token_latency_seconds_count"),
    *("request_time_per_output_token_seconds_count", "e2e_request_latency_seconds_count"),
    *("request_queue_time_seconds_count", "request_prefill_time_seconds_count"),
    *("request_decode_time_seconds_count", "spec_decode_num_drafts_total"),
    *("spec_decode_num_draft_tokens_total", "spec_decode_num_accepted_tokens_total"),
    "spec_decode_num_accepted_tokens_per_pos_total",
]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_metric_is_there_at_a_cold_start(
    app: FastAPI, engine: FakeEngine, metrics: Metrics, name: str
) -> None:
    engine.info, engine.ready = None, False
    text = metrics.render().decode()
    value = "1.0" if name == "build_info" else "0.0"
    assert re.search(rf"^stride_{name}({{.*}})? {re.escape(value)}$", text, re.MULTILINE)


class OneWorker:
    def states(self) -> list[WorkerState]:
        return [WorkerState(0, True, 0.1, 2.0, 1 << 20)]


def test_every_metric_is_documented(app: FastAPI, engine: FakeEngine, metrics: Metrics) -> None:
    engine.drafting = Drafting(corrections={}, paces=[])
    metrics.workers.watch(OneWorker())
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = re.findall(r"^# TYPE (stride_\w+) \w+$", metrics.render().decode(), re.MULTILINE)
    of_an_upstream = r"`(stride_upstream_\w+)`"  # only there where another server answers
    documented = set(re.findall(r"`(stride_\w+)`", page)) - set(re.findall(of_an_upstream, page))
    assert set(shown) == documented


def test_no_series_says_when_it_was_created(app: FastAPI, metrics: Metrics) -> None:
    assert b"_created" not in metrics.render()


async def test_accepted_tokens_are_counted_by_their_depth_in_the_draft(
    http: httpx.AsyncClient, engine: FakeEngine, metric: Metric
) -> None:
    engine.script = said("abcd", "ab", "a")
    await ask(http)
    name = "stride_accepted_tokens_per_position_total"
    counts = [metric(name, **MINE, position=str(position)) for position in (1, 2, 3, 4)]
    assert counts == [2, 1, 1, 0]
    assert sum(counts) == metric("stride_accepted_tokens_total", **MINE)
    assert metric("stride_drafts_total", **MINE) == 2


async def test_tokens_deeper_than_sixteen_have_no_position(
    http: httpx.AsyncClient, engine: FakeEngine, metrics: Metrics
) -> None:
    engine.script = said("x" * 40)
    await ask(http)
    positions = re.findall(rb'per_position_total{.*position="(\d+)"', metrics.render())
    assert set(map(int, positions)) == set(range(1, 17))


async def test_the_phases_of_a_request_add_up_to_it(
    http: httpx.AsyncClient, metric: Metric
) -> None:
    await ask(http)
    first_token = metric("stride_time_to_first_token_seconds_sum", **MINE)
    before = [metric(f"stride_{phase}_time_seconds_sum", **MINE) for phase in BEFORE_FIRST_TOKEN]
    assert all(seconds > 0 for seconds in before[:2])
    assert sum(before) == pytest.approx(first_token, abs=0.001)  # what the script says it queued
    decoding = metric("stride_decode_time_seconds_sum", **MINE)
    assert first_token + decoding <= metric("stride_request_duration_seconds_sum", **MINE)
    for phase in (*BEFORE_FIRST_TOKEN, "decode"):
        assert metric(f"stride_{phase}_time_seconds_count", **MINE) == 1


async def test_a_blocked_event_loop_is_seen(metrics: Metrics, metric: Metric) -> None:
    async with watching(metrics.observe_loop_lag):
        await asyncio.sleep(0)
        time.sleep(SECONDS_BETWEEN_LOOKS + 0.05)
        await asyncio.sleep(0.001)
    assert metric("stride_event_loop_lag_seconds_count") == 1
    assert metric("stride_event_loop_lag_seconds_sum") >= 0.05


async def test_counters_equal_what_the_client_saw(
    http: httpx.AsyncClient, engine: FakeEngine, metric: Metric
) -> None:
    prompt_tokens = completion_tokens = model_steps = 0
    for number in range(3):
        content = (await ask(http, n=number + 1)).json()
        prompt_tokens += content["usage"]["prompt_tokens"]
        completion_tokens += content["usage"]["completion_tokens"]
        model_steps += content["decoding"]["model_steps"]
    outcome = {**MINE, "endpoint": "chat", "status": "200", "finish_reason": "stop"}
    assert metric("stride_requests_total", **outcome) == 3
    assert metric("stride_prompt_tokens_total", **MINE) == prompt_tokens
    assert metric("stride_generation_tokens_total", **MINE) == completion_tokens
    assert metric("stride_decode_steps_total", **MINE) == model_steps
    assert metric("stride_steps_saved_total", **MINE) == completion_tokens - model_steps
    assert metric("stride_accepted_tokens_total", **MINE) == 9 * 6
    assert metric("stride_time_to_first_token_seconds_count", **MINE) == 3
    assert metric("stride_request_duration_seconds_count", **MINE) == 3
    assert metric("stride_time_per_output_token_seconds_count", **MINE) == 6
    assert metric("stride_inter_token_latency_seconds_count", **MINE) == 6
    assert metric("stride_accepted_tokens_per_step_sum", **MINE) == completion_tokens


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_a_failure_is_counted_with_its_status(
    http: httpx.AsyncClient, engine: FakeEngine, metric: Metric, streamed: bool
) -> None:
    engine.script = dying("Hel")
    await ask(http, stream=streamed)
    outcome = {**MINE, "endpoint": "chat", "status": "503", "finish_reason": "error"}
    assert metric("stride_requests_total", **outcome) == 1


async def test_a_refusal_is_counted_once(http: httpx.AsyncClient, metric: Metric) -> None:
    await ask(http, n=0)
    labels = {"model": MODEL, "strategy": "none", "endpoint": "chat", "finish_reason": "none"}
    assert metric("stride_requests_total", status="400", **labels) == 1
    assert metric("stride_requests_rejected_total", reason="invalid") == 1


async def test_clients_cannot_add_series(http: httpx.AsyncClient, metrics: Metrics) -> None:
    await ask(http, model="first")
    before = metrics.render().count(b"\n")
    for number in range(200):
        await ask(http, model=f"model-{number}")
        await http.get(f"/path-{number}", headers={"authorization": f"Bearer key-{number}"})
        await ask(http, decoding={"strategy": f"strategy-{number}"}, user=f"user-{number}")
    # Only the 400 of the unknown strategies is new, beside the 404 of the models.
    assert metrics.render().count(b"\n") <= before + 2


async def test_engine_state_is_read_when_asked(
    app: FastAPI, engine: FakeEngine, metric: Metric
) -> None:
    engine.load = Load(running=3, waiting=2, cache_usage=0.5)
    assert metric("stride_requests_running") == 3
    assert metric("stride_requests_waiting") == 2
    assert metric("stride_kv_cache_usage_ratio") == 0.5
    assert metric("stride_ready") == metric("stride_bit_exact") == 1
    engine.ready = False
    assert metric("stride_ready") == 0


def test_the_cost_of_a_forward_is_shown(
    app: FastAPI, engine: FakeEngine, metrics: Metrics, metric: Metric
) -> None:
    assert metric("stride_forward_cost_seconds", tokens="8") == 0.006
    assert metric("stride_forward_cost_seconds_per_key") == 1e-6
    assert metric("stride_forward_cost_seconds_per_pair") == 1e-7
    assert metric("stride_forward_cost_median_error_ratio") == 0.04
    engine.info = None
    assert b"stride_forward_cost" not in metrics.render()


def test_steps_are_counted(metrics: Metrics, metric: Metric) -> None:
    report = StepReport(
        outputs=[], sequences=4, seconds=0.02, prefix_queries=100, prefix_hits=64, preemptions=1
    )
    metrics.observe_step(report)
    assert metric("stride_batch_size_sum") == 4
    assert metric("stride_step_duration_seconds_sum") == 0.02
    assert metric("stride_prefix_cache_queries_tokens_total") == 100
    assert metric("stride_prefix_cache_hits_tokens_total") == 64
    assert metric("stride_preemptions_total") == 1


async def test_drafts_are_counted_by_source(
    http: httpx.AsyncClient, engine: FakeEngine, metric: Metric
) -> None:
    sources = {"prompt": SourceCounts(1, 5, 2), "recycled": SourceCounts(1, 3, 0)}
    engine.script = said("one", "two", sources=sources)
    body = (await ask(http)).json()
    assert body["decoding"]["sources"] == {
        "prompt": {"steps": 2, "drafted_tokens": 10, "accepted_tokens": 4},
        "recycled": {"steps": 2, "drafted_tokens": 6, "accepted_tokens": 0},
    }
    assert metric("stride_source_drafts_total", **MINE, source="prompt") == 2
    assert metric("stride_source_draft_tokens_total", **MINE, source="recycled") == 6
    assert metric("stride_source_accepted_tokens_total", **MINE, source="prompt") == 4


def test_the_budgets_decisions_are_shown(metrics: Metrics, metric: Metric) -> None:
    decision = Decision(
        sequences=2,
        context_tokens=90,
        proposed=20,
        granted=12,
        expected_tokens=6.5,
        plain_seconds=0.006,
        seconds=0.009,
        least_chance=0.1,
    )
    report = StepReport(outputs=[], sequences=2, seconds=0.01, draft_seconds=0.001)
    report.decisions = [decision, decision]
    metrics.observe_step(report)
    metrics.observe_step(StepReport(outputs=[], sequences=2, seconds=0.01, is_resting=True))
    assert metric("stride_draft_budget_proposed_tokens_total") == 40
    assert metric("stride_draft_budget_granted_tokens_total") == 24
    assert metric("stride_draft_budget_expected_tokens_total") == 13
    assert metric("stride_draft_budget_least_chance") == 0.1
    assert metric("stride_draft_resting_steps_total") == 1
    assert metric("stride_draft_time_seconds_total") == 0.001
    assert metric("stride_verify_time_seconds_total") == pytest.approx(0.019)


def test_what_the_engine_learned_about_drafts_is_shown(
    app: FastAPI, engine: FakeEngine, metric: Metric
) -> None:
    pace = Pace(least=4, most=7, drafting=310.0, plain=290.0, is_resting=False)
    engine.drafting = Drafting(corrections={"prompt": 0.8}, paces=[pace])
    assert metric("stride_draft_estimate_correction_ratio", source="prompt") == 0.8
    assert metric("stride_decode_pace_tokens_per_second", batch="4-7", drafting="yes") == 310
    assert metric("stride_decode_pace_tokens_per_second", batch="4-7", drafting="no") == 290
    assert metric("stride_drafting_rests", batch="4-7") == 0


async def test_vllm_names_show_our_values(
    http: httpx.AsyncClient, engine: FakeEngine, metrics: Metrics, metric: Metric
) -> None:
    await ask(http)
    engine.script = said("x", finish="length")
    await ask(http, "completions")
    await ask(http, n=0)
    text = (await http.get("/metrics")).text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("vllm:")
    }
    labels = ("0", MODEL)
    generated = metric("stride_generation_tokens_total", **MINE)
    assert samples["vllm:generation_tokens_total", *labels] == generated == 12
    assert samples["vllm:e2e_request_latency_seconds_count", *labels] == 2
    assert samples["vllm:num_requests_running", *labels] == 0
    assert samples["vllm:request_success_total", "0", "stop", MODEL] == 1
    assert samples["vllm:request_success_total", "0", "length", MODEL] == 1
    assert samples["vllm:request_prefill_time_seconds_count", *labels] == 2
    assert samples["vllm:request_decode_time_seconds_count", *labels] == 2
    # They count positions from zero.
    first = samples["vllm:spec_decode_num_accepted_tokens_per_pos_total", "0", MODEL, "0"]
    assert first == metric("stride_drafts_total", **MINE) == 2


@pytest.mark.parametrize("name", VLLM_NAMES)
def test_every_vllm_name_is_there_at_a_cold_start(
    app: FastAPI, engine: FakeEngine, metrics: Metrics, name: str
) -> None:
    engine.info = None
    labels = rf'engine="0",.*model_name="{MODEL}"'
    assert re.search(rf"^vllm:{name}{{{labels}.*}} 0.0$", metrics.render().decode(), re.MULTILINE)


async def test_metrics_are_in_prometheus_text_format(http: httpx.AsyncClient) -> None:
    response = await http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")


async def test_a_scrape_keeps_nobody_waiting(http: httpx.AsyncClient, metrics: Metrics) -> None:
    """Others get a turn between any two metrics."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    page = (await http.get("/metrics")).content
    others.cancel()
    assert turns >= len(list(metrics.pieces())) > 50
    assert re.findall(rb"^# TYPE \S+", page, re.M) == re.findall(
        rb"^# TYPE \S+", metrics.render(), re.M
    )


def test_a_scrape_shows_one_moment(metrics: Metrics) -> None:
    """What is counted while the page is being written comes with the next one."""
    page = b""
    for piece in metrics.pieces():
        page += piece
        metrics.observe_output(
            MINE["strategy"], Output(request_id="one", tokens=(1,), steps=1), gap=None
        )
    counted = {
        sample.name: sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.labels.get("strategy") == MINE["strategy"]
    }
    assert counted["stride_decode_steps_total"] == counted["stride_generation_tokens_total"] == 0
