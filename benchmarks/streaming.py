"""A client that keeps the time: what streams back from a server, and when."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import httpx

from benchmarks.processes import ContestantFailed
from benchmarks.timing import Timing

_SECONDS_TO_ANSWER = 600.0


async def stream_all(url: str, bodies: Sequence[Mapping[str, Any]]) -> list[Timing]:
    """Post all bodies at once and time what streams back."""
    # Plain HTTP: without this, a client spends its first tenth of a second on certificates.
    async with httpx.AsyncClient(base_url=url, timeout=_SECONDS_TO_ANSWER, verify=False) as client:
        started = perf_counter()
        return await asyncio.gather(*(stream(client, body, started) for body in bodies))


async def stream(client: httpx.AsyncClient, body: Mapping[str, Any], started: float) -> Timing:
    """Post one body. While the clock runs chunks are only kept; they are read afterwards."""
    async with client.stream("POST", "/v1/completions", json=body) as response:
        chunks = [(perf_counter() - started, chunk) async for chunk in response.aiter_raw()]
    if response.status_code != httpx.codes.OK:
        raise ContestantFailed(b"".join(chunk for _, chunk in chunks).decode(errors="replace"))
    return read_stream(chunks)


def read_stream(chunks: Sequence[tuple[float, bytes]]) -> Timing:
    """What came when, out of the chunks of an event stream and the times of their arrival.

    Raises:
        ContestantFailed: the stream holds an error.
    """
    times: list[float] = []
    text, num_tokens = "", 0
    for seconds, event in events(chunks):
        if "error" in event:
            raise ContestantFailed(str(event["error"]))
        if piece := "".join(choice.get("text") or "" for choice in event["choices"]):
            times.append(seconds)
            text += piece
        num_tokens = (event.get("usage") or {}).get("completion_tokens", num_tokens)
    return Timing(first=times[0], last=times[-1], num_tokens=num_tokens, text=text)


def events(chunks: Sequence[tuple[float, bytes]]) -> list[tuple[float, Any]]:
    """The JSON of each event, with the time at which its last byte arrived."""
    found: list[tuple[float, Any]] = []
    buffered = b""
    for seconds, chunk in chunks:
        *complete, buffered = (buffered + chunk).split(b"\n\n")
        lines = [event.strip().removeprefix(b"data:").strip() for event in complete]
        found += [(seconds, json.loads(line)) for line in lines if line and line != b"[DONE]"]
    return found
