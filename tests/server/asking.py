"""Short ways to ask the app, and to read a stream."""

import json
from typing import Any, Literal

import httpx
from fakes import MODEL

Endpoint = Literal["chat", "completions"]
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
ENDPOINTS: tuple[Endpoint, ...] = ("chat", "completions")


def body(endpoint: Endpoint = "chat", **fields: object) -> dict[str, object]:
    """A valid body, and these fields."""
    prompt: dict[str, object] = (
        {"messages": [{"role": "user", "content": "hi"}]}
        if endpoint == "chat"
        else {"prompt": "hi"}
    )
    return {"model": MODEL, **prompt, **fields}


async def ask(
    http: httpx.AsyncClient, endpoint: Endpoint = "chat", **fields: object
) -> httpx.Response:
    return await http.post(PATHS[endpoint], json=body(endpoint, **fields))


async def answer(
    http: httpx.AsyncClient, endpoint: Endpoint = "chat", **fields: object
) -> dict[str, Any]:
    response = await ask(http, endpoint, **fields)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def stream(
    http: httpx.AsyncClient, endpoint: Endpoint = "chat", **fields: object
) -> list[Any]:
    """The events of a stream; the end mark as a string."""
    response = await ask(http, endpoint, stream=True, **fields)
    assert response.status_code == 200, response.text
    assert response.text.endswith("\n\n")
    lines = response.text.removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    contents = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in contents]


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error, after checking that it has OpenAI's shape."""
    content = response.json()
    assert content.keys() == {"error"}, content
    error = content["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert response.headers["x-request-id"]
    return dict(error)
