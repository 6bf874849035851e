"""More clients than permits, and all kinds of them: nobody hangs, and nothing is lost or left."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio
from asking import answer, ask
from conftest import connect
from connection import Connection
from fakes import MODEL
from tiny_service import PATIENCE, TinyService, permits, tiny_service

from decoding import strategies
from server.admission import Caps

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
SECONDS = 1.5
LOSSLESS = [name for name in strategies.names() if strategies.is_lossless(name)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TinyService]:
    async with tiny_service(tmp_path_factory.mktemp("tiny")) as service:
        yield service


async def test_ten_clients_for_every_permit_are_answered_or_told_to_come_back(
    service: TinyService,
) -> None:
    app = service.another_app(Caps(answers=4, per_key=4))
    statuses: Counter[int] = Counter()
    end = time.monotonic() + SECONDS

    async def ask_again_and_again(number: int) -> None:
        while time.monotonic() < end:
            response = await ask(http, "completions", max_tokens=8, seed=number)
            statuses[response.status_code] += 1
            if response.status_code != 200:
                assert 1 <= int(response.headers["retry-after"]) <= 60
                await asyncio.sleep(0.02)

    async with connect(app) as http, asyncio.timeout(PATIENCE):
        await asyncio.gather(*map(ask_again_and_again, range(40)))
    assert statuses.keys() == {200, 429}
    assert permits(app).requests == 0
    await service.wait_until_idle()
    assert await service.sing() == service.song


async def test_a_mix_of_good_bad_long_and_aborted_requests_leaves_nothing_behind(
    service: TinyService,
) -> None:
    """Of twenty one is long, two are wrong and four are given up."""
    chance = random.Random(0)
    ourselves = psutil.Process()
    processes = service.processes()

    async def ask_one() -> None:
        kind = chance.randrange(20)
        if kind < 4:
            await _give_up(service, after=chance.randrange(8))
        elif kind < 6:
            assert (await ask(service.http, n=0)).status_code == 400
        else:
            await answer(service.http, "completions", max_tokens=150 if kind == 6 else 6, n=2)

    async def ask_on(end: float) -> None:
        while time.monotonic() < end:
            await ask_one()

    await ask_one()  # what is opened once stays open
    tasks, files = len(asyncio.all_tasks()), ourselves.num_fds()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(ask_on(time.monotonic() + SECONDS) for _ in range(8)))
    await service.wait_until_idle()
    assert permits(service.app).requests == 0
    assert service.workers.load.cache_usage == 0
    assert (len(asyncio.all_tasks()), ourselves.num_fds()) == (tasks, files)
    assert service.processes() == processes
    assert service.total("stride_requests_cancelled_total") > 0
    assert await service.sing() == service.song


async def _give_up(service: TinyService, after: int) -> None:
    """Ask for much, and leave after so many pieces of it."""
    connection = Connection(
        service.app, "completions", stream=True, max_tokens=150, ignore_eos=True
    )
    serving = asyncio.create_task(connection.serve())
    for _ in range(after):
        await connection.sent.get()
    connection.leave()
    await serving


@pytest.mark.parametrize("strategy", strategies.names())
async def test_counters_add_up_to_the_tokens_that_clients_got(
    service: TinyService, strategy: str
) -> None:
    names = ("generation_tokens", "prompt_tokens", "decode_steps", "draft_tokens")
    labels = {"strategy": strategy} if strategy in LOSSLESS else {}  # others fall back

    def counted() -> list[float]:
        return [service.total(f"stride_{name}_total", **labels) for name in names]

    async def ask_many(client: int) -> list[list[int]]:
        return [await _figures(service, strategy, 20 * client + turn) for turn in range(20)]

    before = counted()
    async with asyncio.timeout(PATIENCE):
        clients = await asyncio.gather(*map(ask_many, range(10)))
    told = [sum(column) for column in zip(*(row for rows in clients for row in rows), strict=True)]
    grown = [after - earlier for after, earlier in zip(counted(), before, strict=True)]
    assert grown == told
    assert min(told[:3]) > 0


async def _figures(service: TinyService, strategy: str, number: int) -> list[int]:
    """What one answer says of itself."""
    whole = await answer(
        service.http,
        "completions",
        prompt=f"{number % 7} abc abc abc",
        max_tokens=1 + number % 9,
        n=1 + number % 2,
        seed=number,
        decoding={"strategy": strategy},
    )
    usage, decoding = whole["usage"], whole["decoding"]
    return [
        usage["completion_tokens"],
        usage["prompt_tokens"],
        decoding["model_steps"],
        decoding["drafted_tokens"],
    ]


async def test_greedy_answers_are_the_same_alone_together_and_after_a_restart(
    service: TinyService,
) -> None:
    async def greedy(strategy: str) -> object:
        whole = await answer(
            service.http,
            "completions",
            prompt="abc abc abc",
            max_tokens=40,
            temperature=0,
            logprobs=3,
            decoding={"strategy": strategy},
        )
        return whole["choices"]

    plain = await greedy("autoregressive")
    alone = [await greedy(strategy) for strategy in LOSSLESS]
    together = await asyncio.gather(*(greedy(strategy) for strategy in LOSSLESS * 3))
    for process in service.processes():
        if "server.engine_process" in process.cmdline():
            process.kill()
    async with asyncio.timeout(PATIENCE):
        while service.workers.ready:
            await asyncio.sleep(0.005)
        while not service.workers.ready:
            await asyncio.sleep(0.02)
    afterwards = [await greedy(strategy) for strategy in LOSSLESS]
    assert [*alone, *together, *afterwards] == [plain] * 5 * len(LOSSLESS)
    assert service.total("stride_worker_restarts_total", reason="signal") == 1
    assert service.total("stride_generation_tokens_total", model=MODEL) > 0
