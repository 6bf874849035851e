"""Ten times as many clients as may be served at once: what becomes of those who are.

``python -m benchmarks.overload --seconds 60 --write``. First as many clients as the server takes
ask without a pause, which is its capacity; then ten times as many; then as many as at first again.
Half of them stream. Whoever is refused waits for as long as ``Retry-After`` says, as OpenAI's
client does.
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from benchmarks import observing
from benchmarks.endings import ending
from benchmarks.keeping import Connection, ConnectionBroke, Reply
from benchmarks.machine import OtherLoad
from benchmarks.observing import ObservedServer, total
from benchmarks.processes import python
from benchmarks.reliability_page import Finding, milliseconds, percentile, publish, yes

TIMES = 10
_TOKENS = (16, 48)  # of an answer
_SECONDS_TO_SETTLE = 10.0  # of each part, before it counts
_SECONDS_TO_ANSWER = 180.0
_SECONDS_AFTERWARDS = 10.0
_SECONDS_BETWEEN_LOOKS = 1.0
_CALM_REQUESTS = 40
_LONGEST_RETRY = 60.0
_REFUSAL_SECONDS = 0.05
_DEFAULT_RETRY = 1.0  # where no time is given
_EXPECTED = {200, 429, 503}


class Asked(NamedTuple):
    """One request and what became of it."""

    ended: float  # monotonic
    seconds: float
    status: int | None  # None: no answer
    outcome: str
    tokens: int  # that reached the client in a whole answer
    retry_after: float | None


@dataclass
class Part:
    """What happened while so many clients asked."""

    clients: int
    begun: float
    seconds: float
    asked: list[Asked] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Tokens of whole answers a second, once it had settled."""
        ends = self.begun + self.seconds
        return sum(each.tokens for each in self.asked if self.begun <= each.ended < ends) / (
            self.seconds
        )

    @property
    def answered(self) -> list[Asked]:
        """Those that got what they asked for."""
        return [each for each in self.asked if each.tokens]

    @property
    def refused(self) -> list[Asked]:
        """Those that were told to come again."""
        return [each for each in self.asked if each.status in (429, 503)]


@dataclass
class Looks:
    """What the server said of itself meanwhile."""

    pages: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    most_in_progress: float = 0.0
    limit: float = 0.0


def main() -> None:
    """Run from the command line."""
    options = _options()
    server = ObservedServer(options.server)
    try:
        rows, other_load = asyncio.run(_measure(server, options.seconds))
        rows.append(own_account(server.log()))
    finally:
        status = server.stop()
    rows.append(Finding("Exit status at the end", str(status), "0", status == 0))
    publish("overload", rows, other_load, is_kept=options.write)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="that each part counts")
    return observing.options(parser)


async def _measure(server: ObservedServer, seconds: float) -> tuple[list[Finding], float]:
    model = await server.until_ready()
    limit = round(total(await server.metrics(), "stride_queue_limit"))
    workers = server.worker_ids()
    calm = await _calm(server, model)
    other_load, looks = OtherLoad(), Looks(limit=limit)
    watching = asyncio.create_task(_watch(server.connection(), looks))
    parts: list[Part] = []
    asked_beside: list[float] = []
    for number, clients in enumerate((limit, TIMES * limit, limit)):
        print(f"{clients} clients …", flush=True)
        part_of = asyncio.create_task(_part(server, model, clients, seconds, number))
        if clients != limit:
            asked_beside = await _refusals_beside(server, model, seconds)
        part = await part_of
        print(f"  {part.goodput:.0f} tokens/s, {len(part.refused)} refusals", flush=True)
        parts.append(part)
        if clients != limit:
            await asyncio.sleep(_SECONDS_AFTERWARDS)
            calm_again = await _calm(server, model)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    is_idle = await server.until_idle(_SECONDS_AFTERWARDS)
    kept = is_idle and await server.gives_all_permits(model)
    alive = server.worker_ids() == workers
    findings = _findings(parts, asked_beside, looks, calm, calm_again, kept=kept, alive=alive)
    return findings, other_load.share()


async def _part(
    server: ObservedServer, model: str, clients: int, seconds: float, seed: int
) -> Part:
    """Let so many clients ask; all their requests are waited for."""
    part = Part(clients, time.monotonic() + _SECONDS_TO_SETTLE, seconds)
    stop_at = part.begun + seconds
    await asyncio.gather(
        *(
            _client(server.connection(), model, part, stop_at, f"{seed}.{number}")
            for number in range(clients)
        )
    )
    return part


async def _refusals_beside(server: ObservedServer, model: str, seconds: float) -> list[float]:
    """How long refusals take a client in a process of its own, once it has settled."""
    await asyncio.sleep(_SECONDS_TO_SETTLE)
    command = python("-m", "benchmarks.refusals", str(server.port), model, str(seconds))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return [float(each) for each in json.loads(said)]


async def _client(
    connection: Connection, model: str, part: Part, stop_at: float, name: str
) -> None:
    draw = random.Random(name)
    asked = 0
    while time.monotonic() < stop_at:
        tokens = draw.randint(*_TOKENS)
        body = {
            "model": model,
            "prompt": f"Request {name}.{asked}:",
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": draw.random() < 0.5,
        }
        result = await _ask(connection, body, tokens)
        part.asked.append(result)
        asked += 1
        if result.retry_after is not None:
            await asyncio.sleep(max(0.0, min(result.retry_after, stop_at - time.monotonic())))
    connection.close()


async def _ask(connection: Connection, body: dict[str, object], tokens: int) -> Asked:
    begun = time.monotonic()
    try:
        async with asyncio.timeout(_SECONDS_TO_ANSWER):
            reply = await connection.post("/v1/completions", body)
    except TimeoutError:
        return _no_answer(begun, "no answer")
    except ConnectionBroke as error:
        return _no_answer(begun, f"connection broke ({error})")
    outcome = ending(reply.status, reply.headers, reply.body, is_stream=bool(body["stream"]))
    is_whole = outcome == "answered"
    retry = _retry_after(reply) if reply.status != 200 else None
    return Asked(
        time.monotonic(), reply.seconds, reply.status, outcome, tokens if is_whole else 0, retry
    )


def _no_answer(begun: float, outcome: str) -> Asked:
    now = time.monotonic()
    return Asked(now, now - begun, None, outcome, 0, _DEFAULT_RETRY)


def _retry_after(reply: Reply) -> float:
    sent = reply.headers.get("retry-after", "")
    return float(sent) if sent.isdecimal() else _DEFAULT_RETRY


async def _calm(server: ObservedServer, model: str) -> list[float]:
    """How long answers take while nobody else asks."""
    connection, seconds = server.connection(), []
    for number in range(_CALM_REQUESTS):
        body = {"model": model, "prompt": f"Calm {number}:", "max_tokens": 16, "ignore_eos": True}
        plainly = {"decoding": {"strategy": "autoregressive"}, "temperature": 0}
        seconds.append((await connection.post("/v1/completions", body | plainly)).seconds)
    connection.close()
    return seconds


async def _watch(connection: Connection, looks: Looks) -> None:
    while True:
        for path in ("/health", "/ready"):
            reply = await connection.get(path)
            looks.pages[f"{path} {reply.status}"] += 1
            looks.seconds.append(reply.seconds)
        page = (await connection.get("/metrics")).body.decode()
        names = ("stride_requests_running", "stride_requests_waiting")
        in_progress = sum(total(page, name) for name in names)
        looks.most_in_progress = max(looks.most_in_progress, in_progress)
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)


# --- what it says ---


def _findings(
    parts: Sequence[Part],
    asked_beside: Sequence[float],
    looks: Looks,
    calm: Sequence[float],
    calm_again: Sequence[float],
    *,
    kept: bool,
    alive: bool,
) -> list[Finding]:
    before, overloaded, after = parts
    capacity = max(before.goodput, after.goodput)
    return [
        Finding(
            f"Capacity: {before.clients} clients, before and after",
            f"{before.goodput:.0f} and {after.goodput:.0f} tokens/s",
        ),
        Finding(f"Goodput of {overloaded.clients} clients", f"{overloaded.goodput:.0f} tokens/s"),
        share_of_capacity(overloaded.goodput, capacity),
        statuses(overloaded.asked),
        refusals_beside(asked_beside),
        *refusals(overloaded.refused, overloaded.begun),
        Finding(
            "Answers took",
            milliseconds([each.seconds for each in overloaded.answered]),
        ),
        *_looks(looks),
        calmed_down(calm, calm_again),
        yes("Permits: as many answers as may be are taken at once afterwards", kept),
        yes("Workers are the same as before", alive),
    ]


def share_of_capacity(goodput: float, capacity: float) -> Finding:
    """How much of what could be done was done."""
    share = goodput / capacity
    return Finding("Goodput ÷ the higher capacity", f"{share:.0%}", "≥ 90%", share >= 0.9)


def statuses(asked: Sequence[Asked]) -> Finding:
    """What all were told; anything but an answer or a refusal is a fault."""
    found = Counter(each.outcome for each in asked)
    text = ", ".join(f"{number:,} {outcome}" for outcome, number in found.most_common())
    is_met = all(each.status in _EXPECTED for each in asked) and all(
        each.tokens for each in asked if each.status == 200
    )
    return Finding("What became of the requests", text, "200, 429, 503; no other end", is_met)


def refusals_beside(seconds: Sequence[float]) -> Finding:
    """How fast a refusal comes to a client that is not one of thousands in one process."""
    name = f"A refusal takes, for a client in a process of its own ({len(seconds):,})"
    if not seconds:
        return Finding(name, "none", "p99 ≤ 50 ms", False)
    is_fast = percentile(seconds, 0.99) <= _REFUSAL_SECONDS
    return Finding(name, milliseconds(seconds), "p99 ≤ 50 ms", is_fast)


def refusals(refused: Sequence[Asked], begun: float) -> list[Finding]:
    """How fast they come to the clients, and what they say; the first ones are told apart."""
    if not refused:
        return [Finding("Refusals", "none")]
    settled = [each.seconds for each in refused if each.ended >= begun]
    at_first = [each.seconds for each in refused if each.ended < begun]
    retries = [each.retry_after or 0.0 for each in refused]
    is_sane = all(1 <= retry <= _LONGEST_RETRY for retry in retries)
    return [
        Finding(f"For the {len(settled):,} others", milliseconds(settled)),
        Finding(
            f"In the first {_SECONDS_TO_SETTLE:g} s, when all come at once ({len(at_first):,})",
            milliseconds(at_first),
        ),
        Finding(
            "`Retry-After`",
            f"{min(retries):g} to {max(retries):g} s, median {median(retries):g}",
            f"1 to {_LONGEST_RETRY:g} s",
            is_sane,
        ),
    ]


def own_account(log: str) -> Finding:
    """How long refusals took by the log of the server: all else was waiting, here or there."""
    lines = (json.loads(line) for line in log.splitlines() if line.startswith('{"request_id"'))
    seconds = [line["seconds"] for line in lines if line["status"] == 429]
    return Finding("Refusals by the server's own log", milliseconds(seconds))


def _looks(looks: Looks) -> list[Finding]:
    pages = ", ".join(f"{number} × {page}" for page, number in sorted(looks.pages.items()))
    is_truthful = all(page.endswith(" 200") for page in looks.pages)
    return [
        Finding(
            "Most answers in progress",
            f"{looks.most_in_progress:g}",
            f"≤ {looks.limit:g}",
            looks.most_in_progress <= looks.limit,
        ),
        Finding("`/health` and `/ready`, once a second", pages, "200", is_truthful),
        Finding("They took", milliseconds(looks.seconds)),
    ]


def calmed_down(before: Sequence[float], after: Sequence[float]) -> Finding:
    """Whether a single client is answered as fast afterwards as before."""
    typical = (1000 * median(before), 1000 * median(after))
    slow = (1000 * percentile(before, 0.95), 1000 * percentile(after, 0.95))
    return Finding(
        f"A single answer of 16 tokens, before and {_SECONDS_AFTERWARDS:g} s after the last one",
        f"median {typical[0]:.0f} and {typical[1]:.0f} ms, p95 {slow[0]:.0f} and {slow[1]:.0f} ms",
        "p95 within 10%",
        slow[1] <= 1.1 * slow[0],
    )


if __name__ == "__main__":
    main()
