"""A megabyte of text that is hard to cut into tokens: soon refused, and nobody waits for it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from asking import Endpoint, ask, error_of
from conftest import Build, connect
from fakes import FakeEngine, engine_info
from transformers import PreTrainedTokenizerFast

pytestmark = pytest.mark.slow
MEGABYTE = 2**20
SECONDS = 3  # of computing: one, but for processors that others use as well


def random_text() -> str:
    chance = random.Random(0)
    return "".join(chr(chance.randrange(0xE000, 0x2FFFF)) for _ in range(MEGABYTE // 4))


TEXTS = {
    "one letter": "a" * MEGABYTE,
    "random characters": random_text(),
    "marks on one letter": "e" + "\u0301" * (MEGABYTE // 2),
    "joined pictures": "\N{WOMAN}\u200d" * (MEGABYTE // 7),
    "spaces": " " * MEGABYTE,
    "line ends": "\n" * MEGABYTE,
    "control tokens": "<|im_end|>" * (MEGABYTE // 10),
}


@pytest.fixture(scope="module")
def pretrained(default_model: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(default_model)


@pytest.fixture
async def http(
    build: Build, pretrained: PreTrainedTokenizerFast
) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(build(tokenizer=pretrained)) as http:
        yield http


@asynccontextmanager
async def longest_gaps() -> AsyncIterator[list[float]]:
    """In which nothing else was done, while the block was executed; seconds."""
    gaps = [0.0]

    async def look() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.005)
            gaps[0] = max(gaps[0], time.monotonic() - begun)

    looking = asyncio.create_task(look())
    yield gaps
    looking.cancel()


@asynccontextmanager
async def held_up_nobody() -> AsyncIterator[None]:
    """What is done inside is done soon, and at no time is it all that is done."""
    async with longest_gaps() as gaps:
        await asyncio.sleep(0.02)
        begun, computed = time.monotonic(), time.process_time()
        yield
        seconds = time.monotonic() - begun
    assert time.process_time() - computed < SECONDS
    assert gaps[0] < max(0.1, seconds / 3)


async def assert_refused(http: httpx.AsyncClient, endpoint: Endpoint, **fields: object) -> None:
    async with held_up_nobody():
        response = await ask(http, endpoint, **fields)
    assert error_of(response)["code"] == "context_length_exceeded"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_hard_text_is_refused_soon_and_holds_up_nobody(
    http: httpx.AsyncClient, text: str
) -> None:
    await assert_refused(http, "completions", prompt=text)


@pytest.mark.parametrize("name", ["one letter", "control tokens"])
async def test_hard_messages_are_refused_soon_and_hold_up_nobody(
    http: httpx.AsyncClient, name: str
) -> None:
    await assert_refused(http, "chat", messages=[{"role": "user", "content": TEXTS[name]}])


async def test_many_prompts_that_are_long_together_hold_up_nobody(
    http: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.info = engine_info(context_length=10_000)
    async with held_up_nobody():
        response = await ask(http, "completions", prompt=["hi there " * 2000] * 60)
    assert response.status_code == 200, response.text
