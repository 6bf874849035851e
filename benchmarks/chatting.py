"""Chat answers over HTTP: what streams back, when, and what the server says of it."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.contestants import Server
from benchmarks.processes import ContestantFailed, python
from benchmarks.streaming import Address, events, received

_SECONDS_TO_ANSWER = 600.0
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class ChatAnswer(NamedTuple):
    """One answer; seconds count from when its clock was started.

    ``pieces`` are the characters that came, each time with the second. ``decoding`` is what Stride
    reports of it, ``timings`` what llama.cpp does. ``sent`` is when it was asked for.
    """

    text: str
    num_tokens: int
    first: float
    seconds: float
    pieces: tuple[tuple[float, int], ...]
    decoding: Mapping[str, Any]
    timings: Mapping[str, Any] = _NOTHING
    sent: float = 0.0

    def tokens_until(self, seconds: float) -> float:
        """The part of its tokens that had come by then, by its characters."""
        come = sum(characters for at, characters in self.pieces if at <= seconds)
        return self.num_tokens * come / len(self.text)


class ChatServer(Server):
    """``stride serve`` with options; it remembers no past answers, which would be copied."""

    health = "/ready"

    def __init__(self, model: str, *options: str) -> None:
        super().__init__("Stride over HTTP", model)
        self._options = options

    @classmethod
    def of_model(cls, directory: Path, *options: str) -> "ChatServer":
        """A server of the model in a directory."""
        return cls(directory.name, "--model", str(directory), *options)

    @property
    def base_url(self) -> str:
        """Where its API is, as clients are told it."""
        return f"{self.url}/v1"

    def command(self, port: int) -> list[str]:
        """What starts it."""
        # Only a server with a model of its own has past answers to forget.
        forgets = [] if "--upstream" in self._options else ["--history", "0"]
        return python("-m", "server.cli", "serve", *self._options, *forgets, "--port", str(port))

    async def ask(
        self,
        question: str,
        max_tokens: int,
        decoding: Mapping[str, Any],
        fields: Mapping[str, object] = MappingProxyType({}),
        started: float | None = None,
    ) -> ChatAnswer:
        """Ask one question, greedily, with more ``fields`` in the body.

        The clock is started now unless it runs already.

        Raises:
            ContestantFailed: there is no answer.
        """
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "decoding": dict(decoding),
            **fields,
        }
        return await asked(self.address, body, started)


async def asked(
    address: Address, body: Mapping[str, Any], started: float | None = None
) -> ChatAnswer:
    """Ask for a streamed answer. The clock is started now unless it runs already.

    Raises:
        ContestantFailed: there is no answer.
    """
    sent = perf_counter()
    clock = sent if started is None else started
    try:
        async with asyncio.timeout(_SECONDS_TO_ANSWER):
            chunks = await received(address, "/chat/completions", body, clock)
        return read_answer(chunks)._replace(sent=sent - clock)
    except (OSError, ValueError, LookupError, TimeoutError) as error:
        raise ContestantFailed(f"{type(error).__name__}: {error}") from error


def read_answer(chunks: Sequence[tuple[float, bytes]]) -> ChatAnswer:
    """The answer in the chunks of an event stream and the times of their arrival.

    Raises:
        ContestantFailed: the stream holds an error or no text.
    """
    pieces: list[tuple[float, str]] = []
    reports: dict[str, Any] = {}  # the latest of each kind: servers end their streams differently
    for seconds, event in events(chunks):
        if "error" in event:
            raise ContestantFailed(str(event["error"]))
        if text := "".join(choice["delta"].get("content") or "" for choice in event["choices"]):
            pieces.append((seconds, text))
        reports |= {name: report for name, report in event.items() if report}
    if not pieces:
        raise ContestantFailed("an answer without text")
    return ChatAnswer(
        text="".join(text for _, text in pieces),
        num_tokens=reports.get("usage", {}).get("completion_tokens", 0),
        first=pieces[0][0],
        seconds=chunks[-1][0],
        pieces=tuple((seconds, len(text)) for seconds, text in pieces),
        decoding=reports.get("decoding", {}),
        timings=reports.get("timings", {}),
    )
