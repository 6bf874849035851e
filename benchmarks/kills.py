"""Kills workers of a server under load, again and again: what is noticed when, and what is lost.

``python -m benchmarks.kills --kills 100``: clients ask without a pause, half of them for streams. A
worker is killed at a random moment of the load, whenever all are up.
"""

import argparse
import asyncio
import json
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import psutil

from benchmarks.processes import ROOT, environment, python

_SECONDS_TO_LOAD = 600.0
_SECONDS_TO_ANSWER = 120.0
_SECONDS_BETWEEN_LOOKS = 0.01
_MOST_SECONDS_BEFORE = 1.0  # all are up for so long at most before the next one is killed
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "segfault": signal.SIGSEGV}


def main() -> None:
    """Run from the command line."""
    options = _options()
    with TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.close()
        command = python(*("-m", "server", "serve", "--port", str(port)), *options.server)
        with (Path(directory) / "log").open("wb") as log:
            server = psutil.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
        try:
            asyncio.run(_measure(server, f"http://127.0.0.1:{port}", options))
        finally:
            server.send_signal(signal.SIGTERM)
            print(f"exit status {server.wait(60)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="All other options go to `stride serve`."
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="of every answer")
    parser.add_argument("--by", choices=sorted(_SIGNALS), default="kill")
    parser.add_argument("--seed", type=int, default=0)
    options, others = parser.parse_known_args()
    options.server = others
    return options


async def _measure(server: psutil.Popen, url: str, options: argparse.Namespace) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=_SECONDS_TO_ANSWER) as http:
        watch = _Watch(http)
        await watch.until_up(None, _SECONDS_TO_LOAD)
        count = len(server.children())
        models = (await http.get("/v1/models")).json()["data"]
        clients = _Clients(http, models[0]["id"], options.tokens)
        asking = [asyncio.create_task(clients.ask_on(n)) for n in range(options.clients)]
        draw = random.Random(options.seed)
        noticed, recovered = [], []
        for _ in range(options.kills):
            await asyncio.sleep(draw.uniform(0, _MOST_SECONDS_BEFORE))
            begun, restarts = time.monotonic(), await watch.restarts()
            draw.choice(server.children()).send_signal(_SIGNALS[options.by])
            await watch.until_noticed(restarts, count)
            noticed.append(time.monotonic() - begun)
            await watch.until_up(count, _SECONDS_TO_LOAD)
            recovered.append(time.monotonic() - begun)
        clients.stop()
        await asyncio.gather(*asking)
        _print(noticed, recovered, clients.outcomes, await watch.gauges())


def _print(
    noticed: Sequence[float], recovered: Sequence[float], outcomes: Counter[str], left: str
) -> None:
    print(f"{len(noticed)} workers lost\n")
    for name, seconds in (("noticed", noticed), ("all up again", recovered)):
        print(f"{name:<14} median {median(seconds):.3f} s, longest {max(seconds):.3f} s")
    print("\nrequests")
    for outcome, number in outcomes.most_common():
        print(f"  {number:>6}  {outcome}")
    print(f"\nleft behind\n{left}")


class _Watch:
    """Reads what the server says of its workers."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def until_up(self, count: int | None, seconds: float) -> None:
        """Until so many workers are up, or the server is ready at all."""
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
        """What should be zero after the load, and what was counted."""
        names = ("stride_requests_running", "stride_requests_waiting", "stride_in_flight")
        lines = [f"  {name} {value:g}" for name, value in (await self._samples(names)).items()]
        return "\n".join(line for line in lines if "_created" not in line)

    async def _is_up(self, count: int | None) -> bool:
        try:
            if count is None:
                return (await self._http.get("/ready")).status_code == 200
            return sum((await self._samples("stride_worker_up")).values()) == count
        except httpx.TransportError:  # it does not listen yet
            return False

    async def _samples(self, prefix: str | tuple[str, ...]) -> dict[str, float]:
        lines = (await self._http.get("/metrics")).text.splitlines()
        found = (line.rpartition(" ") for line in lines if line.startswith(prefix))
        return {name: float(value) for name, _, value in found}


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
                text = (await response.aread()).decode()
        except httpx.TimeoutException:
            return "no answer"
        except httpx.TransportError as error:
            return f"connection broke ({type(error).__name__})"
        if response.status_code != 200:
            code = json.loads(text)["error"]["code"]
            return f"{response.status_code} {code}" + (
                ", Retry-After" if "retry-after" in response.headers else ""
            )
        return end_of_stream(text) if body["stream"] else "answered"


def end_of_stream(text: str) -> str:
    """What became of an answer whose events are these."""
    last = text.strip().rpartition("\n")[2].removeprefix("data: ")
    if last == "[DONE]":
        return "answered"
    return "error event" if last.startswith('{"error"') else "broken off"


if __name__ == "__main__":
    main()
