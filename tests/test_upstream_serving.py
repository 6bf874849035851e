"""One real Stride over another one, asked by the real client."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI
from server_process import ServerProcess, running_server

from decoding.models import DEFAULT_MODEL as MODEL

pytestmark = pytest.mark.slow
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
LIST = [{"role": "user", "content": "What are some ways to save energy at home?"}]


@pytest.fixture(scope="module")
def front(
    real_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("front") / "log"
    with running_server(log, "--upstream", real_server.url) as server:
        server.wait_until_ready()
        yield server
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def client(front: ServerProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{front.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def plain(client: OpenAI, stream: bool = False) -> Any:
    return client.chat.completions.create(
        model=MODEL, messages=FRANCE, temperature=0, max_tokens=24, stream=stream
    )


def test_a_plain_chat_is_the_same_as_without_us_between(
    client: OpenAI, real_server: ServerProcess
) -> None:
    with OpenAI(base_url=f"{real_server.url}/v1", api_key="any") as direct:
        there, here = plain(direct), plain(client)
        streamed = list(plain(client, stream=True))
    assert here.choices == there.choices
    assert here.usage.completion_tokens == there.usage.completion_tokens
    text = "".join(c.choices[0].delta.content or "" for c in streamed if c.choices)
    assert text == there.choices[0].message.content
    assert here.decoding["strategy"] == "passthrough"
    assert here.decoding["upstream"]["strategy"] == there.decoding["strategy"]


def test_a_list_question_comes_back_by_skeleton_in_order(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=LIST,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks: list[Any] = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 3
    last = chunks[-1]
    assert last.decoding["strategy"] == "skeleton"
    assert last.decoding["branches"]["count"] == len(numbers) + 1
    assert last.usage.completion_tokens > len(numbers)


def test_an_error_is_the_upstreams(front: ServerProcess) -> None:
    body = {"model": MODEL, "messages": FRANCE, "temperature": 9}
    response = httpx.post(f"{front.url}/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "temperature"
