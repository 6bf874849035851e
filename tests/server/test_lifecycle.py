"""From the command to its exit code: what a terminal, a supervisor or a broken model does to it."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import psutil
import pytest
from server_process import (
    ROOT,
    SECONDS_TO_LOAD,
    ServerProcess,
    command,
    environment,
    free_port,
    running_server,
    wait_for,
)
from tiny import CONTEXT, save_tiny_model

pytestmark = pytest.mark.slow
ENDS_IN = 20  # seconds; six on a quiet machine
MODEL_OPTIONS = ("--threads", "1", "--dtype", "fp32", "--no-self-check")
CACHE = ("--cache-tokens", str(CONTEXT))
ENDLESS = {"prompt": "x", "max_tokens": CONTEXT - 1, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    options = ("--model", str(model), *MODEL_OPTIONS, *CACHE)
    with running_server(tmp_path / "log", *options) as server:
        yield server


@pytest.fixture
def ready_server(server: ServerProcess) -> ServerProcess:
    server.wait_until_ready()
    return server


@contextmanager
def stream(server: ServerProcess, **fields: object) -> Iterator[Iterator[str]]:
    """The events of a stream, without what frames them."""
    body = {"model": "tiny", **ENDLESS, **fields}
    url = f"{server.url}/v1/completions"
    with httpx.stream("POST", url, json=body, timeout=ENDS_IN) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        yield (line.removeprefix("data: ") for line in lines if line)


def last_error(events: Iterator[str]) -> Any:
    """The error that a stream ends with."""
    *_, last = events
    return json.loads(last)["error"]


def assert_ended_cleanly(server: ServerProcess, children: list[psutil.Process]) -> None:
    assert server.exit_code(ENDS_IN) == 0
    assert psutil.wait_procs(children, timeout=ENDS_IN)[1] == []
    assert "Traceback" not in server.log


def seconds_of_notice(server: ServerProcess) -> float:
    """How long it is unready before nobody listens any more."""
    wait_for(lambda: server.status("/ready") == 503, ENDS_IN)
    begun = time.monotonic()
    wait_for(lambda: server.status("/ready") is None, ENDS_IN)
    return time.monotonic() - begun


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_code_0_and_leaves_nothing(
    ready_server: ServerProcess, number: signal.Signals
) -> None:
    children = ready_server.children
    assert len(children) == 1
    ready_server.signal(number)
    assert seconds_of_notice(ready_server) > 0.8  # of the second that is promised
    assert_ended_cleanly(ready_server, children)
    assert "Stride is ready" in ready_server.log
    assert "Loading weights" not in ready_server.log


def test_it_is_alive_but_not_ready_while_it_loads(server: ServerProcess) -> None:
    server.wait_until_up()
    ready = httpx.get(f"{server.url}/ready")
    assert ready.status_code == 503
    assert ready.json() == {"status": "not ready", "reason": "the model is loading"}
    asked = httpx.post(f"{server.url}/v1/completions", json={"model": "tiny", "prompt": "x"})
    assert asked.status_code == 503
    assert asked.headers["retry-after"]
    children = server.children
    server.signal(signal.SIGTERM)
    assert_ended_cleanly(server, children)


def test_ten_answers_in_progress_are_finished_first(ready_server: ServerProcess) -> None:
    children, begun = ready_server.children, Barrier(11)

    def read(_: int) -> list[str]:
        with stream(ready_server, max_tokens=300) as events:
            next(events)
            begun.wait(ENDS_IN)
            return list(events)

    with ThreadPoolExecutor(10) as pool:
        reading = pool.map(read, range(10))
        begun.wait(ENDS_IN)
        ready_server.signal(signal.SIGTERM)
        for *rest, end in reading:
            assert end == "[DONE]"
            assert json.loads(rest[-1])["choices"][0]["finish_reason"] == "length"
    assert_ended_cleanly(ready_server, children)


def test_an_answer_that_takes_too_long_ends_with_an_error(model: Path, tmp_path: Path) -> None:
    options = ("--model", str(model), *MODEL_OPTIONS, *CACHE, "--drain-seconds", "2")
    with running_server(tmp_path / "log", *options) as server:
        server.wait_until_ready()
        children = server.children
        with stream(server) as events:
            next(events)
            server.signal(signal.SIGTERM)
            assert last_error(events)["code"] == "aborted"
        assert_ended_cleanly(server, children)


def test_a_draining_server_says_so_and_takes_nothing_new(ready_server: ServerProcess) -> None:
    children = ready_server.children
    with stream(ready_server, max_tokens=800) as events:
        next(events)
        ready_server.signal(signal.SIGHUP)
        wait_for(lambda: ready_server.status("/ready") == 503, ENDS_IN)
        ready = httpx.get(f"{ready_server.url}/ready")
        assert ready.json() == {"status": "not ready", "reason": "draining"}
        assert ready_server.status("/health") == 200
        body = {"model": "tiny", "prompt": "x"}
        refused = httpx.post(f"{ready_server.url}/v1/completions", json=body)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert refused.headers["retry-after"]
        assert refused.headers["connection"] == "close"
        metrics = httpx.get(f"{ready_server.url}/metrics").text.splitlines()
        assert "stride_ready 0.0" in metrics
        *_, end = events
    assert end == "[DONE]"
    assert_ended_cleanly(ready_server, children)


def test_a_second_signal_does_not_wait(ready_server: ServerProcess) -> None:
    children = ready_server.children
    with stream(ready_server) as events:
        next(events)
        ready_server.signal(signal.SIGTERM)
        wait_for(lambda: ready_server.status("/ready") == 503, ENDS_IN)
        ready_server.signal(signal.SIGTERM)
        assert last_error(events)["code"] == "aborted"
    assert_ended_cleanly(ready_server, children)


def test_past_answers_outlive_the_server(model: Path, tmp_path: Path) -> None:
    kept = ("--history-file", str(tmp_path / "history"))
    body = {"model": "tiny", "prompt": "x", "max_tokens": 20, "ignore_eos": True}
    found = []
    for _ in range(2):
        options = ("--model", str(model), *MODEL_OPTIONS, *CACHE, *kept)
        with running_server(tmp_path / "log", *options) as server:
            server.wait_until_ready()
            answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=ENDS_IN)
            found.append(answer.json()["decoding"]["history"])
            server.signal(signal.SIGTERM)
            assert server.exit_code(ENDS_IN) == 0
    assert found == ["miss", "hit"]


def test_the_worker_does_not_outlive_a_killed_server(ready_server: ServerProcess) -> None:
    children = ready_server.children
    with stream(ready_server) as events:
        next(events)
        ready_server.process.kill()
        assert psutil.wait_procs(children, timeout=ENDS_IN)[1] == []


def test_a_killed_worker_is_replaced_and_costs_only_streams_that_began(
    ready_server: ServerProcess,
) -> None:
    (worker,) = ready_server.children
    body = {**ENDLESS, "model": "tiny", "max_tokens": 400, "temperature": 0, "stream": False}
    with stream(ready_server) as events, ThreadPoolExecutor() as pool:
        next(events)
        whole = pool.submit(post, ready_server, body)
        wait_for(lambda: running(ready_server) == 2, ENDS_IN)
        worker.kill()
        assert last_error(events)["code"] == "engine_died"
        wait_for(lambda: ready_server.status("/ready") == 200, SECONDS_TO_LOAD)
        assert whole.result().json()["usage"]["completion_tokens"] == 400
    alone = post(ready_server, body).json()
    assert whole.result().json()["choices"] == alone["choices"]
    metrics = httpx.get(f"{ready_server.url}/metrics").text.splitlines()
    assert {
        "stride_requests_running 0.0",
        "stride_in_flight_lost_total 1.0",
        "stride_in_flight_repeated_total 1.0",
        'stride_worker_restarts_total{reason="signal",worker="0"} 1.0',
    } <= set(metrics)
    children = ready_server.children
    ready_server.signal(signal.SIGTERM)
    assert_ended_cleanly(ready_server, [worker, *children])
    assert "the worker ended, killed by SIGKILL" in ready_server.log


def post(server: ServerProcess, body: dict[str, object]) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=SECONDS_TO_LOAD)


def running(server: ServerProcess) -> float:
    """Requests in the engine now."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("stride_requests_running "))
    return float(value)


def test_two_workers_serve_as_one(model: Path, tmp_path: Path) -> None:
    options = ("--model", str(model), "--dtype", "fp32", "--no-self-check", *CACHE)
    with running_server(tmp_path / "log", *options, "--workers", "2") as server:
        server.wait_until_ready()
        children = server.children
        assert len(children) == 2
        with stream(server, max_tokens=50) as events:
            *_, end = events
        assert end == "[DONE]"
        server.signal(signal.SIGINT)
        assert_ended_cleanly(server, children)
        assert "2, with 1 thread each" in server.log


# --- what cannot start ---


def refused(*options: str) -> str:
    """The only line that a command says which cannot serve."""
    given = command("--port", str(free_port()), *MODEL_OPTIONS, *options)
    result = subprocess.run(
        given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_a_port_in_use_is_said_in_one_line(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        line = refused("--model", str(model), "--port", str(port))
    assert line == f"stride: cannot listen on 127.0.0.1:{port}: Address already in use"


def spoil(file: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / file).write_bytes(b"\x00nonsense" * 100)

    return write


def remove(file: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove("config.json"), "has no config.json"),
        (remove("model.safetensors"), "has no .safetensors weights"),
        (remove("tokenizer.json"), "cannot read the tokenizer of broken"),
        (spoil("config.json"), "is not valid JSON"),
        (spoil("tokenizer.json"), "cannot read the tokenizer of broken"),
        (spoil("model.safetensors"), "cannot serve broken"),
    ],
)
def test_a_broken_model_is_said_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    directory = save_tiny_model(tmp_path / "broken")
    damage(directory)
    line = refused("--model", str(directory))
    assert line.startswith("stride: ")
    assert says in line


def test_a_setting_the_model_cannot_honour_is_said_in_one_line(model: Path) -> None:
    line = refused("--model", str(model), "--context-length", str(CONTEXT + 1))
    assert line.startswith(f"stride: cannot serve tiny: a context of {CONTEXT + 1} tokens")
