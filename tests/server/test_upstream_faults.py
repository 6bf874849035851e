"""Whatever an upstream does, clients get an answer or one clear error, in time: never the key."""

import asyncio
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from asking import PATHS, body, error_of
from scripted_upstream import (
    KEY,
    LIST,
    MODEL,
    PLAIN,
    Call,
    Front,
    ScriptedUpstream,
    chunk,
    completion,
    greet,
)
from test_disconnect import Connection

from server.upstream import client


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(client, "_LOOK_SECONDS", 0.3)


def first(times: int, fault: object) -> object:
    """A script that fails so often and then greets."""
    left = [times]

    async def script(call: Call) -> None:
        left[0] -= 1
        await (fault if left[0] >= 0 else greet)(call)  # type: ignore[operator]

    return script


async def hang(call: Call) -> None:
    await asyncio.Event().wait()


async def failing(call: Call) -> None:
    await call.json({"error": {"message": "out of order", "type": "server_error"}}, 500)


async def busy(call: Call) -> None:
    await call.json({"error": {"message": "slow down"}}, 429, retry_after="0")


async def dropping(call: Call) -> None:
    """The connection ends before a byte of the response."""


# --- retries ---


@pytest.mark.parametrize("fault", [failing, busy, dropping])
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_fails_before_it_begins_is_tried_again(
    upstream: ScriptedUpstream, front: Front, fault: object, streamed: bool
) -> None:
    upstream.script = first(2, fault)  # type: ignore[assignment]
    response = await front.ask(stream=streamed)
    assert response.status_code == 200
    assert len(upstream.calls) == 3
    assert front.value("stride_upstream_retries_total") == 2
    assert front.value("stride_upstream_requests_total", status="200") == 1


async def test_an_upstream_that_fails_for_ever_is_asked_three_times(
    upstream: ScriptedUpstream, front: Front
) -> None:
    upstream.script = failing
    response = await front.ask(stream=True)
    assert response.status_code == 500
    assert error_of(response)["message"] == "out of order"
    assert len(upstream.calls) == 3
    assert front.value("stride_upstream_requests_total", status="500") == 3
    assert (
        front.value(
            "stride_requests_total",
            model=MODEL,
            strategy="passthrough",
            endpoint="chat",
            status="500",
            finish_reason="error",
        )
        == 1
    )


@pytest.mark.parametrize("as_date", [False, True])
async def test_an_upstream_is_given_the_time_it_asks_for(
    upstream: ScriptedUpstream, front: Front, as_date: bool
) -> None:
    at: list[float] = []

    async def script(call: Call) -> None:
        at.append(time.monotonic())
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=2.0), usegmt=True)
        if len(at) == 1:
            asked_for = later if as_date else "1"
            await call.json({"error": {"message": "wait"}}, 429, retry_after=asked_for)
        else:
            await greet(call)

    upstream.script = script
    assert (await front.ask()).status_code == 200
    assert at[1] - at[0] >= 0.9


async def test_nobody_waits_for_a_retry_beyond_the_deadline(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.json({"error": {"message": "come back tomorrow"}}, 429, retry_after="86400")

    upstream.script = script
    response = await Front(upstream, timeout=5).ask()
    assert response.status_code == 429
    assert response.headers["retry-after"] == "86400"
    assert len(upstream.calls) == 1


async def test_a_client_error_is_passed_on_at_once(
    upstream: ScriptedUpstream, front: Front
) -> None:
    async def script(call: Call) -> None:
        error = {"message": "no such tool", "type": "bad", "param": "tools", "code": "x"}
        await call.json({"error": error}, 422)

    upstream.script = script
    response = await front.ask()
    assert response.status_code == 422
    assert error_of(response) == {
        "message": "no such tool",
        "type": "bad",
        "param": "tools",
        "code": "x",
    }
    assert len(upstream.calls) == 1


# --- answers that are none ---


async def wrong_json(call: Call) -> None:
    await call.reply(b'{"choices": [')


async def html(call: Call) -> None:
    await call.reply(b"<html>nginx</html>", kind="text/html")


async def html_error(call: Call) -> None:
    await call.reply(b"<html>Bad gateway at 10.0.0.7</html>", 404, kind="text/html")


async def huge_error(call: Call) -> None:
    await call.reply(b"x" * 1_000_000, 400)


async def other_shape(call: Call) -> None:
    await call.json({"detail": [1, 2]}, 400)


async def redirect(call: Call) -> None:
    await call.reply(b"", 307, location="http://elsewhere/")


async def no_choices(call: Call) -> None:
    await call.json({"ok": True})


@pytest.mark.parametrize("line", [b"x" * 4096, b"data: x\n" * 512])
async def test_an_event_without_end_is_given_up(
    upstream: ScriptedUpstream, front: Front, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_LARGEST_EVENT", 100_000)

    async def script(call: Call) -> None:
        await call.begin_events()
        for _ in range(2000):  # far more than it takes
            await call.send(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    upstream.script = script
    response = await front.ask(stream=True)
    assert response.status_code == 502
    assert error_of(response)["code"] == "upstream_unreadable"
    async with asyncio.timeout(5):
        while upstream.open_calls:  # it hears of it when it next writes
            await asyncio.sleep(0.01)


async def test_a_long_answer_of_small_events_is_none_too_large(
    upstream: ScriptedUpstream, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_LARGEST_EVENT", 10_000)
    pieces = [f"{number} " for number in range(1000)]

    async def script(call: Call) -> None:
        await call.write(*pieces)

    upstream.script = script
    response = await front.ask(stream=True)
    assert response.text.count('"content": ') == 1 + len(pieces)
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "fault", [wrong_json, html, html_error, huge_error, other_shape, redirect, no_choices]
)
async def test_what_is_no_answer_is_a_bad_gateway(
    upstream: ScriptedUpstream, front: Front, fault: object, streamed: bool
) -> None:
    upstream.script = fault  # type: ignore[assignment]
    response = await front.ask(stream=streamed)
    assert response.status_code == 502
    error = error_of(response)
    assert error["code"] == "upstream_unreadable"
    assert "10.0.0.7" not in response.text
    assert str(upstream.port) not in response.text


async def test_an_upstream_that_is_not_there_is_a_bad_gateway() -> None:
    front = Front(ScriptedUpstream(port=1))
    response = await front.ask()
    assert response.status_code == 502
    assert error_of(response)["code"] == "upstream_unreachable"
    assert front.value("stride_upstream_requests_total", status="unreachable") == 3


@pytest.mark.parametrize("how", ["dropped", "ended", "error", "garbage"])
async def test_a_stream_that_breaks_ends_with_an_error_and_is_not_asked_again(
    upstream: ScriptedUpstream, front: Front, how: str
) -> None:
    async def script(call: Call) -> None:
        await call.begin_events()
        await call.event(chunk({"content": "Hel"}))
        if how == "ended":
            await call.end_events(mark=False)
        elif how == "error":
            await call.event(json.dumps({"error": {"message": "out of memory"}}))
            await call.end_events()
        elif how == "garbage":
            await call.event("{nonsense")
            await call.end_events()

    upstream.script = script
    response = await front.ask(stream=True)
    assert response.status_code == 200
    *_, text, last = response.text.strip().split("\n\n")
    assert '"Hel"' in text
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert len(upstream.calls) == 1
    labels = {"strategy": "passthrough", "endpoint": "chat", "status": "502"}
    assert front.value("stride_requests_total", model=MODEL, finish_reason="error", **labels) == 1


# --- time ---


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_upstream_that_never_answers_is_given_up(
    upstream: ScriptedUpstream, streamed: bool
) -> None:
    upstream.script = hang
    front = Front(upstream, timeout=0.3)
    started = time.monotonic()
    response = await front.ask(stream=streamed)
    assert time.monotonic() - started < 3
    assert response.status_code == 504
    assert error_of(response)["code"] == "upstream_timeout"
    await until_left(upstream)


@pytest.mark.parametrize("given", ["field", "header"])
async def test_a_client_s_own_deadline_is_kept_here(upstream: ScriptedUpstream, given: str) -> None:
    upstream.script = hang
    front = Front(upstream, timeout=60)
    in_body: dict[str, float] = {"deadline": 0.3} if given == "field" else {}
    headers = {"x-stride-deadline": "0.3"} if given == "header" else {}
    started = time.monotonic()
    front.http.headers.update(headers)
    response = await front.ask(**in_body)
    assert time.monotonic() - started < 3
    assert response.status_code == 408
    assert error_of(response)["code"] == "deadline_exceeded"
    (call,) = upstream.calls
    assert "deadline" not in call.body
    await until_left(upstream)


@pytest.mark.parametrize("deadline", [0, -1, "1", True, 1e9])
async def test_a_deadline_that_is_no_number_of_seconds_is_refused(
    upstream: ScriptedUpstream, deadline: object
) -> None:
    response = await Front(upstream).ask(deadline=deadline)
    assert response.status_code == 400
    assert error_of(response)["param"] == "deadline"
    assert upstream.calls == []


async def test_a_stream_that_stops_is_given_up(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.begin_events()
        await call.event(chunk({"content": "Hel"}))
        await hang(call)

    upstream.script = script
    response = await Front(upstream, timeout=1.0).ask(stream=True)
    assert response.text.count("data:") == 2
    assert "upstream_timeout" in response.text
    await until_left(upstream)


async def test_calls_beyond_the_limit_wait_for_their_turn(upstream: ScriptedUpstream) -> None:
    most = 0

    async def script(call: Call) -> None:
        nonlocal most
        most = max(most, len(upstream.open_calls))
        await asyncio.sleep(0.02)
        await greet(call)

    upstream.script = script
    front = Front(upstream, connections=2)
    responses = await asyncio.gather(*(front.ask() for _ in range(6)))
    assert {response.status_code for response in responses} == {200}
    assert most == 2


# --- leaving ---


async def until_left(upstream: ScriptedUpstream) -> None:
    async with asyncio.timeout(2):
        while upstream.open_calls:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_ends_the_call(
    upstream: ScriptedUpstream, front: Front, streamed: bool, begun: bool
) -> None:
    async def script(call: Call) -> None:
        if begun and streamed:
            await call.begin_events()
            await call.event(chunk({"content": "Hel"}))
        await hang(call)

    upstream.script = script
    connection = Connection(front.app, "chat", stream=streamed, **PLAIN)
    serving = asyncio.create_task(connection.serve())
    while not upstream.calls:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    connection.leave()
    await asyncio.wait_for(serving, 1)
    await until_left(upstream)
    assert upstream.calls[0].was_left
    phase = "decode" if begun and streamed else "queued"
    assert front.value("stride_requests_cancelled_total", phase=phase) == 1
    assert front.value("stride_requests_running") == 0


async def test_a_client_that_leaves_ends_all_calls_of_an_answer_in_points(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        if call.said == "1.":
            await call.write(" Food", "\n2. Water", "\n3. Map\n4. Torch")
        await hang(call)

    upstream.script = script
    front = Front(upstream, prefill="continue")
    fields = {"messages": [{"role": "user", "content": LIST}], "model": MODEL}
    connection = Connection(front.app, "chat", stream=True, **fields)
    serving = asyncio.create_task(connection.serve())
    while len(upstream.calls) < 5:
        await asyncio.sleep(0.005)
    connection.leave()
    await asyncio.wait_for(serving, 1)
    await until_left(upstream)
    assert all(call.was_left for call in upstream.calls)


async def test_a_server_that_ends_ends_its_answers(
    upstream: ScriptedUpstream, front: Front
) -> None:
    upstream.script = hang
    asking = asyncio.create_task(front.ask())
    while not upstream.calls:
        await asyncio.sleep(0.005)
    front.upstream.close()
    response = await asyncio.wait_for(asking, 1)
    assert response.status_code == 503
    await until_left(upstream)
    assert (await front.ask()).status_code == 503


# --- the key ---


async def tells_the_key(call: Call) -> None:
    error = {"message": f"Incorrect API key provided: {KEY}", "type": "x", "code": KEY}
    await call.json({"error": error}, call.body.get("seed", 400))


@pytest.mark.parametrize("status", [400, 401, 403, 500])
async def test_the_key_is_sent_and_never_told(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.script = tells_the_key
    front = Front(upstream, retries=0)
    responses = [await front.ask(stream=streamed, seed=status) for streamed in (False, True)]
    assert upstream.calls[0].headers["authorization"] == f"Bearer {KEY}"
    for response in responses:
        assert response.status_code == (502 if status == 401 else status)
        assert KEY not in response.text + str(response.headers)
    assert KEY not in caplog.text
    assert KEY not in (await front.http.get("/metrics")).text
    assert KEY not in repr(front.upstream.target)


async def test_the_clients_key_does_not_go_on(upstream: ScriptedUpstream, front: Front) -> None:
    await front.http.post(
        PATHS["chat"], json={**body(), **PLAIN}, headers={"authorization": "Bearer theirs"}
    )
    assert upstream.calls[0].headers["authorization"] == f"Bearer {KEY}"


# --- ready ---


@pytest.mark.parametrize(
    ("status", "ready"), [(200, 200), (404, 200), (401, 503), (500, 503), (503, 503)]
)
async def test_ready_is_about_the_upstream(
    upstream: ScriptedUpstream, front: Front, status: int, ready: int
) -> None:
    upstream.models_status = status
    for _ in range(3):
        response = await front.http.get("/ready")
        assert response.status_code == ready
    assert upstream.looks == 1
    assert front.value("stride_ready") == (ready == 200)
    assert (await front.http.get("/health")).status_code == 200


async def test_an_upstream_that_is_not_there_is_not_ready() -> None:
    front = Front(ScriptedUpstream(port=1))
    response = await front.http.get("/ready")
    assert response.json() == {
        "status": "not ready",
        "reason": "the upstream cannot be reached",
    }


async def test_a_large_answer_is_passed_on(upstream: ScriptedUpstream, front: Front) -> None:
    async def script(call: Call) -> None:
        await call.json(completion("x" * 3_000_000))

    upstream.script = script
    response = await front.ask()
    assert len(response.json()["choices"][0]["message"]["content"]) == 3_000_000
