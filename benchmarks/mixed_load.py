"""Requests of every kind that a server meets, side by side: for what watches it, not to time it."""

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

import httpx

PATH = "/v1/chat/completions"
PAGE = "The lamp was first lit in 1854 by the daughter of the keeper. It was seen for 20 miles."
CODE = "def area(x):\n    return 3.14159 * x * x\n\ndef girth(x):\n    return 2 * 3.14159 * x"
STORY = "Tell me a story about a lighthouse and a storm."


def _asking(question: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"messages": messages, "temperature": 0, "max_tokens": 64, **fields}


BODIES: Mapping[str, dict[str, Any]] = {
    "skeleton": _asking("What are the benefits of regular exercise?", max_tokens=200),
    "reference": _asking("When was the lamp first lit? Quote the page.", documents=[PAGE]),
    "prediction": _asking(
        f"Rename x to radius and output all of it:\n\n{CODE}",
        prediction={"type": "content", "content": CODE},
    ),
    "lookahead": _asking(STORY),
    "jacobi": _asking(STORY, decoding={"strategy": "jacobi"}),
    "plain": _asking(STORY, decoding={"strategy": "autoregressive"}),
    "refused": _asking("Hi", n=0),
}
STREAMS = ("streamed", "left")  # read to its end, or to its first words


class MixedLoad:
    """Clients that ask for this many seconds, and until all has been asked once."""

    def __init__(self, url: str, model: str, seconds: float) -> None:
        self._url = url
        self._model = model
        self._seconds = seconds
        self._ends = 0.0
        self._missing = {*BODIES, *STREAMS}

    async def run(self, clients: int, *, joining: float = 0.0) -> None:
        """Let them ask, each client coming ``joining`` seconds after the one before it."""
        self._ends = time.monotonic() + self._seconds
        async with httpx.AsyncClient(base_url=self._url, timeout=120) as http:
            await asyncio.gather(
                *(self._client(http, number, number * joining) for number in range(clients))
            )

    async def _client(self, http: httpx.AsyncClient, number: int, delay: float) -> None:
        await asyncio.sleep(delay)
        dice = random.Random(number)
        while self._missing or time.monotonic() < self._ends:
            name = dice.choice(sorted(self._missing or {*BODIES, *STREAMS}))
            if name in STREAMS:
                await self._stream(http, leaves=name == "left")
            else:
                await self._ask(http, name)
            self._missing.discard(name)

    async def _ask(self, http: httpx.AsyncClient, name: str) -> None:
        response = await http.post(PATH, json={"model": self._model, **BODIES[name]})
        expected = 400 if name == "refused" else 200
        if response.status_code != expected:
            raise RuntimeError(f"{name}: {response.text}")

    async def _stream(self, http: httpx.AsyncClient, *, leaves: bool) -> None:
        body = {"model": self._model, **BODIES["lookahead"], "stream": True}
        async with http.stream("POST", PATH, json=body) as response:
            async for line in response.aiter_lines():
                if leaves and '"content":"' in line and '"content":""' not in line:
                    break
