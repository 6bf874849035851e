"""An engine in a process of its own: what goes wrong there stays there."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from fakes import CONTROL_TOKENS
from server_process import ROOT
from tiny import CONTEXT, OPTIONS, save_tiny_model

from decoding.report import StepReport
from decoding.request import Output, Request, Sampling, Stopping
from server.engine_client import EngineDied, Load
from server.frames import Abort, FrameError, LoadModel, encode
from server.worker import ENVIRONMENT, EngineFailed, Worker

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
PATIENCE = 20  # seconds, for what takes milliseconds on a quiet machine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def load_frame(directory: Path) -> LoadModel:
    return LoadModel(directory=str(directory), name="tiny", options=OPTIONS)


@pytest.fixture(scope="module")
def reports() -> list[StepReport]:
    """Every step of the shared worker."""
    return []


@asynccontextmanager
async def started_worker(
    model: Path, on_step: Callable[[StepReport], None] = lambda report: None
) -> AsyncIterator[tuple[Worker, psutil.Process]]:
    """A worker and its process; nothing of it is left afterwards."""
    before = set(psutil.Process().children())
    worker = Worker(load_frame(model), on_step)
    try:
        await worker.start()
        (process,) = set(psutil.Process().children()) - before
        yield worker, process
    finally:
        await worker.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    model: Path, reports: list[StepReport]
) -> AsyncIterator[tuple[Worker, psutil.Process]]:
    """One for all tests that leave it alive."""
    async with started_worker(model, reports.append) as started:
        yield started


@pytest.fixture
def worker(shared: tuple[Worker, psutil.Process]) -> Worker:
    return shared[0]


def request(name: str, max_tokens: int = 12, seed: int = 0, n: int = 1) -> Request:
    return Request(
        id=name,
        prompt=tuple(name.encode()),
        sampling=Sampling(seed=seed),
        stopping=Stopping(max_tokens=max_tokens, ignore_eos=True),
        n=n,
    )


def endless(name: str = "endless") -> Request:
    return request(name, max_tokens=CONTEXT - len(name))


async def outputs(worker: Worker, request: Request) -> list[Output]:
    async with asyncio.timeout(PATIENCE):
        return [output async for output in worker.generate(request)]


async def tokens(worker: Worker, request: Request) -> list[int]:
    return [token for output in await outputs(worker, request) for token in output.tokens]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


# --- its work ---


async def test_a_started_worker_says_what_it_serves(worker: Worker) -> None:
    assert worker.ready
    assert worker.info is not None
    assert worker.info.model == "tiny"
    assert worker.info.architecture == "LlamaForCausalLM"
    assert worker.info.vocabulary_size == 257 + len(CONTROL_TOKENS)
    assert worker.info.context_length == CONTEXT
    assert worker.info.threads == OPTIONS.threads
    assert worker.info.eos_token_ids


async def test_a_worker_has_threads_and_memory_for_an_engine(
    shared: tuple[Worker, psutil.Process],
) -> None:
    assert ENVIRONMENT.items() <= shared[1].environ().items()


async def test_a_worker_lets_the_api_process_go_first(
    shared: tuple[Worker, psutil.Process],
) -> None:
    """Or whoever is refused waits for a forward."""
    assert shared[1].nice() > psutil.Process().nice()


async def test_what_the_operator_has_set_stays(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    async with started_worker(model) as (_, process):
        assert process.environ()["GOMP_SPINCOUNT"] == "7"


async def test_every_choice_is_answered(worker: Worker) -> None:
    answer = await outputs(worker, request("many", n=3))
    choices = [[o for o in answer if o.index == index] for index in range(3)]
    assert [sum(len(o.tokens) for o in choice) for choice in choices] == [12] * 3
    assert [choice[-1].finish_reason for choice in choices] == ["length"] * 3
    assert len({tuple(t for o in choice for t in o.tokens) for choice in choices}) == 3
    assert {output.request_id for output in answer} == {"many"}
    assert worker.load == Load()


async def test_requests_at_once_get_their_own_answers(worker: Worker) -> None:
    requests = [request(f"request {number}", seed=number) for number in range(8)]
    alone = [await tokens(worker, each) for each in requests]
    together = await asyncio.gather(*(tokens(worker, each) for each in requests))
    assert together == alone
    assert len(set(map(tuple, alone))) == 8


async def test_closing_the_generator_ends_the_work(
    worker: Worker, reports: list[StepReport]
) -> None:
    """The load is known at once, though no step follows that would tell it."""
    stream = worker.generate(endless())
    await anext(stream)
    assert worker.load.running == 1
    await stream.aclose()
    await until(lambda: worker.load == Load())
    assert reports[-1].sequences == 0
    assert worker.ready


async def test_one_leaves_and_the_others_stay(worker: Worker) -> None:
    alone = await tokens(worker, request("bystander", 200))
    leaving = worker.generate(endless())
    await anext(leaving)
    staying = asyncio.create_task(tokens(worker, request("bystander", 200)))
    await until(lambda: worker.load.running == 2)
    await leaving.aclose()
    assert await staying == alone


async def test_a_request_the_engine_refuses_fails_alone(worker: Worker) -> None:
    bystander = asyncio.create_task(tokens(worker, request("bystander", 100)))
    refused = await outputs(worker, request("long", max_tokens=CONTEXT, n=2))
    assert [(o.index, o.finish_reason) for o in refused] == [(0, "error"), (1, "error")]
    assert f"context holds {CONTEXT}" in str(refused[0].error)
    assert len(await bystander) == 100
    assert worker.ready


async def test_a_request_that_cannot_be_sent_fails_alone(worker: Worker) -> None:
    lone_surrogate = Stopping(max_tokens=1, stop=("\ud800",))
    with pytest.raises(FrameError):
        await outputs(worker, Request(id="x", prompt=(1,), stopping=lone_surrogate))
    assert len(await tokens(worker, request("next"))) == 12


async def test_signals_for_everyone_do_not_end_a_worker(
    shared: tuple[Worker, psutil.Process],
) -> None:
    """Service managers send SIGTERM to all processes; answers in progress must be finished."""
    worker, process = shared
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    assert len(await tokens(worker, request("afterwards"))) == 12


# --- its end ---


async def test_a_killed_worker_is_noticed_at_once(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started_worker(model) as (worker, process):
        streams = [worker.generate(endless(str(number))) for number in range(3)]
        for stream in streams:
            await anext(stream)
        process.kill()
        async with asyncio.timeout(PATIENCE):
            for stream in streams:
                with pytest.raises(EngineDied):
                    while True:
                        await anext(stream)
        assert not worker.ready
        assert worker.load == Load()
        with pytest.raises(EngineDied):
            await anext(worker.generate(request("late")))
    assert caplog.messages == ["the worker ended, killed by SIGKILL"]


async def test_a_stopped_worker_leaves_no_process(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started_worker(model) as (worker, process):
        stream = worker.generate(endless())
        await anext(stream)
        await worker.stop()
        assert not process.is_running()
        with pytest.raises(EngineDied):
            while True:
                await anext(stream)
    assert caplog.messages == []


async def test_a_worker_that_hangs_can_be_stopped(model: Path) -> None:
    async with started_worker(model) as (worker, process):
        process.suspend()
        await asyncio.wait_for(worker.stop(), PATIENCE)
        assert not process.is_running()


async def test_a_worker_can_be_stopped_while_it_loads(model: Path) -> None:
    before = set(psutil.Process().children())
    worker = Worker(load_frame(model))
    starting = asyncio.create_task(worker.start())
    await until(lambda: set(psutil.Process().children()) - before)
    starting.cancel()
    await asyncio.wait_for(worker.stop(), PATIENCE)
    assert set(psutil.Process().children()) <= before
    assert not worker.ready


# --- what does not load ---


async def failure(directory: Path, program: str = "server.engine_process") -> str:
    """What a worker says of a directory that it cannot load, leaving nothing behind."""
    worker = Worker(load_frame(directory), program=program)
    with pytest.raises(EngineFailed) as failed:
        await worker.start()
    assert not worker.ready
    await asyncio.wait_for(worker.stop(), PATIENCE)
    return str(failed.value)


def spoil(file: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / file).write_bytes(b"\x00nonsense" * 100)

    return write


def _nothing_there(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        _nothing_there,
        spoil("model.safetensors"),
        spoil("tokenizer.json"),
    ],
    ids=["empty", "bad-weights", "bad-tokenizer"],
)
async def test_what_is_no_model_is_refused_with_a_sentence(
    tmp_path: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    damage(save_tiny_model(tmp_path))
    reason = await failure(tmp_path)
    assert reason.startswith("cannot serve tiny: ")
    assert "\n" not in reason
    assert "Traceback" not in capfd.readouterr().err


async def test_a_worker_that_talks_nonsense_is_let_go(
    monkeypatch: pytest.MonkeyPatch, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    before = set(psutil.Process().children())
    assert "ended while it was loading" in await failure(model, program="babbler")
    assert set(psutil.Process().children()) <= before
    assert "bytes is over" in caplog.text


# --- the worker's own side, spoken to without a client ---


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, subprocess.Popen[str]]]:
    """A worker process that has been told nothing yet."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "server.engine_process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        theirs.close()
        try:
            yield ours, process
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "bytes is over"),
        (b"\x00\x00\x00\x04junk", "malformed"),
        (encode(Abort("x")), "the first frame is not what to load"),
    ],
)
async def test_a_worker_ends_when_it_hears_nonsense(
    raw: tuple[socket.socket, subprocess.Popen[str]], sent: bytes, complaint: str
) -> None:
    connection, process = raw
    connection.sendall(sent)
    _, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 1
    assert complaint in errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) == 1


async def test_a_worker_does_not_outlive_the_process_it_works_for(
    raw: tuple[socket.socket, subprocess.Popen[str]],
) -> None:
    connection, process = raw
    connection.close()
    _, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0
    assert errors == ""
