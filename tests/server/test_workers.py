"""Several workers as one engine: whatever ends one of them costs nobody but those it answered."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from facts import engine_info
from scripted_pool import DOES_NOTHING, PATIENCE, Pool, running, until
from scripted_worker import token_of

from decoding.request import Output, Request, Sampling, Stopping
from server.engine_client import EngineDied, Load
from server.worker import EngineFailed

ENDLESS = 1_000_000


def request(name: str, max_tokens: int = 12, n: int = 1, salt: str = "") -> Request:
    stopping = Stopping(max_tokens=max_tokens)
    prompt = tuple(name.encode())
    sampling = Sampling(seed=0)
    return Request(
        id=name, prompt=prompt, sampling=sampling, stopping=stopping, n=n, cache_salt=salt
    )


async def answer(pool: Pool, request: Request, *, is_whole: bool = False) -> list[Output]:
    async with asyncio.timeout(PATIENCE):
        return [output async for output in pool.workers.generate(request, is_whole=is_whole)]


def tokens(outputs: list[Output], index: int = 0) -> list[int]:
    return [token for output in outputs if output.index == index for token in output.tokens]


def expected(request: Request, index: int = 0) -> list[int]:
    return [token_of(request, number) + index for number in range(request.stopping.max_tokens)]


async def running_request(pool: Pool, name: str) -> asyncio.Task[list[Output]]:
    """A stream that has begun."""
    begun = asyncio.Event()

    async def read() -> list[Output]:
        outputs = []
        async for output in pool.workers.generate(request(name, ENDLESS)):
            begun.set()
            outputs.append(output)
        return outputs

    task = asyncio.create_task(read())
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    return task


def workers() -> list[psutil.Process]:
    """Those of this test: other tests of a run may have a server that goes on beside them."""
    children = psutil.Process().children()
    return [each for each in children if "scripted_worker" in " ".join(_command_of(each))]


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.ZombieProcess:
        return []


def child() -> psutil.Process:
    (process,) = workers()
    return process


# --- what ends a worker ---


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("exit", "exit"),
        ("fail", "exit"),
        ("segfault", "signal"),
        ("garbage", "corrupt"),
        ("hang_up", "corrupt"),
        ("stop", "hang"),
    ],
)
async def test_whatever_ends_a_worker_another_takes_its_place(deed: str, reason: str) -> None:
    """And whoever has heard nothing yet is answered by that one."""
    async with running(1, f"{deed}@1") as pool:
        asked = request("first")
        assert tokens(await answer(pool, asked)) == expected(asked)
        assert pool.restarts(reason) == 1
        assert pool.metric("stride_in_flight_repeated_total") == 1
        assert pool.metric("stride_in_flight_lost_total") == 0
        assert pool.started == 2


async def test_a_stopped_worker_is_noticed_within_a_second() -> None:
    async with running(1) as pool:
        child().suspend()
        begun = time.monotonic()
        await until(lambda: pool.restarts("hang"))
        assert time.monotonic() - begun < 1.5  # 0.6 on a quiet machine
        await until(lambda: pool.workers.ready)


async def test_an_idle_worker_that_spins_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped while nobody may see that it is, which is as silent as an endless loop."""
    monkeypatch.setattr("server.worker._SUSPICIOUS_SECONDS", 100)
    async with running(1) as pool:
        child().suspend()
        begun = time.monotonic()
        await until(lambda: pool.restarts("hang"))
        assert 0.5 < time.monotonic() - begun < 2  # 1.1 on a quiet machine


async def test_a_busy_worker_that_spins_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.heartbeat._BUSY_SECONDS", 0.5)
    async with running(1, "spin@3") as pool:
        with pytest.raises(EngineDied):
            await answer(pool, request("first"))
        await until(lambda: pool.restarts("hang") == 1)


async def test_a_killed_worker_is_noticed_and_replaced_at_once() -> None:
    async with running(1) as pool:
        process, begun = child(), time.monotonic()
        process.kill()
        await until(lambda: not pool.workers.ready)
        assert time.monotonic() - begun < 1
        await until(lambda: pool.workers.ready)
        load_seconds = pool.metric("stride_worker_start_duration_seconds", worker="0")
        assert time.monotonic() - begun < load_seconds + 2
        assert child().pid != process.pid
        assert pool.restarts("signal") == 1


async def test_a_first_start_that_fails_is_said_and_not_repeated() -> None:
    pool = Pool(2, DOES_NOTHING, "fail@0")
    with pytest.raises(EngineFailed, match="the engine is broken"):
        await pool.workers.start()
    await pool.workers.stop()
    assert pool.started == 2
    assert workers() == []


async def test_a_start_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.backoff._DELAYS", (0.0, 0.1, 0.1, 0.1))
    async with running(1, "exit@1", "exit@0", "fail@0") as pool:
        asked = request("first")
        assert tokens(await answer(pool, asked)) == expected(asked)
        assert pool.restarts("exit") == 3
        assert pool.started == 4


async def test_a_start_that_finds_no_room_for_a_socket_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(1) as pool:
        with monkeypatch.context() as full:
            full.setattr("socket.socketpair", lambda: os.open("/nonexistent", os.O_RDONLY))
            child().kill()
            await until(lambda: pool.restarts("exit"))
        await until(lambda: pool.workers.ready)
        assert pool.restarts("signal") == 1


# --- whose answers are lost ---


async def test_a_stream_that_began_ends_with_an_error() -> None:
    async with running(1, "exit@5") as pool:
        stream = pool.workers.generate(request("first"))
        assert len(tokens([await anext(stream) for _ in range(4)])) == 4
        with pytest.raises(EngineDied):
            await anext(stream)
        assert pool.metric("stride_in_flight_lost_total") == 1
        assert pool.workers.load == Load()


async def test_a_whole_answer_goes_on_where_the_lost_worker_was() -> None:
    asked = request("first", n=2)
    async with running(1, "exit@9") as pool:
        outputs = await answer(pool, asked, is_whole=True)
    assert [tokens(outputs, index) for index in range(2)] == [
        expected(asked, index) for index in range(2)
    ]
    assert sum(output.steps for output in outputs) == 24
    assert [output.finish_reason for output in outputs if output.finish_reason] == ["length"] * 2


async def test_a_request_that_ends_two_workers_is_not_given_a_third() -> None:
    async with running(1, "exit@1", "exit@1") as pool:
        with pytest.raises(EngineDied):
            await answer(pool, request("first"))
        await until(lambda: pool.workers.ready)
        assert pool.started == 3
        assert pool.metric("stride_in_flight_lost_total") == 1


async def test_nobody_waits_for_ever_for_a_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.workers._SECONDS_FOR_A_REPLACEMENT", 0.2)
    monkeypatch.setattr("server.workers._STARTS", 0)
    monkeypatch.setattr("server.backoff._DELAYS", (60.0,))
    async with running(1, "exit@1") as pool:
        monkeypatch.setattr("server.worker.Worker.has_stepped", False)
        monkeypatch.setattr("server.supervisor._SECONDS_TO_PROVE_ITSELF", 1000.0)
        with pytest.raises(EngineDied, match="no worker was ready"):
            await answer(pool, request("first"))
        assert not pool.workers.ready


async def test_requests_of_other_workers_do_not_notice() -> None:
    async with running(2) as pool:
        streams = [await running_request(pool, str(number)) for number in range(6)]
        workers()[0].kill()
        _, others = await asyncio.wait(streams, return_when=asyncio.FIRST_COMPLETED)
        await until(lambda: pool.workers.load.running == len(others))
        await asyncio.sleep(0.1)
        assert 0 < len(others) == sum(not stream.done() for stream in streams)
        for stream in others:
            stream.cancel()
        failures = await asyncio.gather(*streams, return_exceptions=True)
        lost = sum(isinstance(failure, EngineDied) for failure in failures)
        assert lost == 6 - len(others) == pool.metric("stride_in_flight_lost_total")
        await until(lambda: pool.workers.load == Load())


async def test_nothing_is_left_of_requests_after_many_kills() -> None:
    async with running(2) as pool:

        async def ask(name: str) -> list[Output]:
            try:
                return await answer(pool, request(name, 40), is_whole=True)
            except EngineDied:
                return []

        for kill in range(6):
            asked = [asyncio.create_task(ask(f"{kill}.{number}")) for number in range(8)]
            await asyncio.sleep(0.03)
            workers()[kill % 2].kill()
            answers = await asyncio.gather(*asked)
            assert all(len(tokens(each)) in (0, 40) for each in answers)
            await until(lambda: all(state.is_ready for state in pool.workers.states()))
        await until(lambda: pool.workers.load == Load())
        assert all(each.worker.requests == 0 for each in pool.workers._supervisors)
        assert sum(pool.restarts("signal", str(number)) for number in range(2)) == 6


# --- who answers ---


async def test_what_begins_alike_goes_to_one_worker_unless_it_is_busy() -> None:
    async with running(3) as pool:
        streams = [await running_request(pool, "alike" * 20 + str(n)) for n in range(5)]
        requests = sorted(each.worker.requests for each in pool.workers._supervisors)
        assert requests == [0, 1, 4] or requests == [0, 2, 3] or requests == [1, 1, 3]
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)


async def test_workers_tell_of_themselves_as_one_engine() -> None:
    async with running(2) as pool:
        assert pool.workers.info == engine_info()
        assert pool.workers.ready
        streams = [await running_request(pool, str(number)) for number in range(4)]
        await until(lambda: pool.workers.load.running == 4)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)


# --- the end ---


async def test_a_draining_pool_finishes_what_it_has() -> None:
    async with running(1) as pool:
        asked = asyncio.create_task(answer(pool, request("first", 100)))
        await until(lambda: pool.workers.load.running)
        pool.workers.drain()
        assert not pool.workers.ready
        assert pool.workers.is_draining
        assert len(tokens(await asked)) == 100


async def test_what_is_in_progress_when_all_is_let_go_is_aborted() -> None:
    async with running(1) as pool:
        stream = await running_request(pool, "first")
        pool.workers.close()
        async with asyncio.timeout(PATIENCE):
            assert (await stream)[-1].finish_reason == "abort"


# --- what is counted ---


async def test_every_metric_of_workers_is_there_from_the_start_and_documented() -> None:
    pool = Pool(2)
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = {
        line.split()[2] for line in pool.exposition.splitlines() if line.startswith("# TYPE stride")
    }
    names = {name for name in shown if not name.endswith("_created")}
    assert len(names) == 7
    assert [name for name in names if f"`{name}`" not in page] == []
    assert pool.exposition.count("stride_worker_restarts_total{") == 2 * 5


async def test_a_lost_worker_shows_until_it_is_replaced() -> None:
    async with running(1) as pool:
        assert pool.metric("stride_worker_up", worker="0") == 1
        assert pool.metric("stride_worker_last_heartbeat_seconds", worker="0") < 1
        assert pool.metric("stride_worker_rss_bytes", worker="0") > 1 << 20
        child().send_signal(signal.SIGKILL)
        await until(lambda: not pool.metric("stride_worker_up", worker="0"))
        await until(lambda: pool.metric("stride_worker_up", worker="0"))
        assert pool.restarts("signal") == 1


async def test_what_a_large_step_brought_is_handed_on_a_few_at_a_time() -> None:
    """A request that arrives meanwhile is not kept waiting until all of it is written."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running(1) as pool:
        others = asyncio.create_task(take_turns())
        asked = request("many", max_tokens=1, n=200)
        seen = [turns async for _ in pool.workers.generate(asked)]
        others.cancel()
    assert len(seen) == 200
    assert max(Counter(seen).values()) <= 8
