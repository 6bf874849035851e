"""Kills workers of a server under load, again and again: what is noticed when, and what is lost.

``python -m benchmarks.kills --kills 100 --write``: clients ask without a pause, half of them for
streams. A worker is killed at a random moment of the load, whenever all are up.
"""

import argparse
import asyncio
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import httpx

from benchmarks import observing
from benchmarks.endings import ending
from benchmarks.machine import OtherLoad
from benchmarks.observing import HOST, ObservedServer, samples
from benchmarks.reliability_page import Finding, publish

_SECONDS_TO_LOAD = 600.0
_SECONDS_TO_ANSWER = 120.0
_SECONDS_BETWEEN_LOOKS = 0.01
_MOST_SECONDS_BEFORE = 1.0  # all are up for so long at most before the next one is killed
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "segfault": signal.SIGSEGV}
# What may become of a request whose worker is lost; only a stream that has begun gets an event.
_EXPECTED = re.compile(r"answered|error event|503 \w+, Retry-After")


class Recovery(NamedTuple):
    """What became of a server whose workers were killed."""

    noticed: Sequence[float]  # seconds after each kill
    recovered: Sequence[float]
    outcomes: Counter[str]
    idle: bool  # nothing was in progress at the end
    permits: bool  # and all permits were there
    left: str
    other_load: float


def main() -> None:
    """Run from the command line."""
    options = _options()
    server = ObservedServer(options.server)
    try:
        found = asyncio.run(_measure(server, options))
    finally:
        status = server.stop()
    print(found.left)
    rows = [*findings(found), Finding("Exit status", str(status), "0", status == 0)]
    publish("kills", rows, found.other_load, is_kept=options.write)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60, help="that it takes at most")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="of every answer")
    parser.add_argument("--by", choices=sorted(_SIGNALS), default="kill")
    parser.add_argument("--seed", type=int, default=0)
    return observing.options(parser)


async def _measure(server: ObservedServer, options: argparse.Namespace) -> Recovery:
    model = await server.until_ready()
    url = f"http://{HOST}:{server.port}"
    async with httpx.AsyncClient(base_url=url, timeout=_SECONDS_TO_ANSWER) as http:
        watch, other_load = _Watch(http), OtherLoad()
        count = len(server.workers())
        clients = _Clients(http, model, options.tokens)
        asking = [asyncio.create_task(clients.ask_on(n)) for n in range(options.clients)]
        draw = random.Random(options.seed)
        noticed, recovered = [], []
        ends = time.monotonic() + 60 * options.minutes
        for number in range(options.kills):
            if time.monotonic() > ends:
                break
            await asyncio.sleep(draw.uniform(0, _MOST_SECONDS_BEFORE))
            begun, restarts = time.monotonic(), await watch.restarts()
            draw.choice(server.workers()).send_signal(_SIGNALS[options.by])
            await watch.until_noticed(restarts, count)
            noticed.append(time.monotonic() - begun)
            await watch.until_up(count, _SECONDS_TO_LOAD)
            recovered.append(time.monotonic() - begun)
            if number % 10 == 9:
                print(f"{number + 1} killed: {dict(clients.outcomes)}", flush=True)
        clients.stop()
        await asyncio.gather(*asking)
        idle = await server.until_idle(_SECONDS_TO_ANSWER)
        permits = idle and await server.gives_all_permits(model)
        left = await watch.gauges()
    share = other_load.share()
    return Recovery(noticed, recovered, clients.outcomes, idle, permits, left, share)


def findings(found: Recovery) -> list[Finding]:
    """What was expected, and what came of it."""
    outcomes = ", ".join(f"{number:,} {what}" for what, number in found.outcomes.most_common())
    has_listed = all(_EXPECTED.fullmatch(what.partition(": ")[2]) for what in found.outcomes)
    return [
        Finding("Workers lost", str(len(found.noticed))),
        Finding("Noticed after", _seconds(found.noticed), "≤ 1 s", max(found.noticed) <= 1),
        Finding("All up again after", _seconds(found.recovered)),
        Finding(
            "What became of the requests",
            outcomes,
            "answers, error events, 503 with `Retry-After`",
            has_listed,
        ),
        Finding("Requests left in progress", _no_or_yes(found.idle), "no", found.idle),
        Finding("Permits lost", _no_or_yes(found.permits), "no", found.permits),
    ]


def _seconds(values: Sequence[float]) -> str:
    return f"median {median(values):.3f} s, longest {max(values):.3f} s"


def _no_or_yes(is_good: bool) -> str:
    return "no" if is_good else "yes"


class _Watch:
    """Reads what the server says of its workers."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def until_up(self, count: int, seconds: float) -> None:
        """Until so many workers are up."""
        async with asyncio.timeout(seconds):
            while not await self._is_up(count):
                await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)

    async def until_noticed(self, restarts: float, count: int) -> None:
        """Until a worker counts as lost."""
        async with asyncio.timeout(_SECONDS_TO_ANSWER):
            while await self.restarts() == restarts and await self._is_up(count):
                await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)

    async def restarts(self) -> float:
        """Workers lost so far."""
        return sum((await self._samples("stride_worker_restarts_total")).values())

    async def gauges(self) -> str:
        """What was counted, and what should be zero after the load."""
        names = ("stride_requests_running", "stride_requests_waiting", "stride_in_flight")
        lines = [f"  {name} {value:g}" for name, value in (await self._samples(names)).items()]
        return "\n".join(lines)

    async def _is_up(self, count: int) -> bool:
        return sum((await self._samples("stride_worker_up")).values()) == count

    async def _samples(self, prefix: str | tuple[str, ...]) -> dict[str, float]:
        return samples((await self._http.get("/metrics")).text, prefix)


class _Clients:
    """Ask without a pause and note what becomes of it."""

    def __init__(self, http: httpx.AsyncClient, model: str, tokens: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._http = http
        self._model = model
        self._tokens = tokens
        self._goes_on = True

    def stop(self) -> None:
        """Finish what has begun."""
        self._goes_on = False

    async def ask_on(self, number: int) -> None:
        """Be one client; those of even numbers stream."""
        name = "stream" if number % 2 == 0 else "whole answer"
        asked = 0
        while self._goes_on:
            body = self._body(f"{number}.{asked}", stream=number % 2 == 0)
            outcome = await self._outcome(body)
            self.outcomes[f"{name}: {outcome}"] += 1
            asked += 1
            if outcome.startswith("503"):  # it says when to come again; so long nobody waits here
                await asyncio.sleep(0.1)

    def _body(self, prompt: str, *, stream: bool) -> dict[str, object]:
        return {
            "model": self._model,
            "prompt": f"Request {prompt}:",
            "max_tokens": self._tokens,
            "ignore_eos": True,
            "stream": stream,
        }

    async def _outcome(self, body: dict[str, object]) -> str:
        try:
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                content = await response.aread()
        except httpx.TimeoutException:
            return "no answer"
        except httpx.TransportError as error:
            return f"connection broke ({type(error).__name__})"
        is_stream = bool(body["stream"])
        return ending(response.status_code, response.headers, content, is_stream=is_stream)


if __name__ == "__main__":
    main()
