"""Half an hour of everything at once: what grows, what is left behind, what is counted wrongly.

``python -m benchmarks.soak --minutes 30 --write``: clients of several keys ask for all strategies,
as streams and not. One in five leaves at a random moment, one in ten asks for something that is
refused, one in twenty for something long. The cache and the history are small, so that both are
full when the warm-up is over: what grows after it is a leak.
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import linear_regression
from typing import Any, NamedTuple

from benchmarks import observing
from benchmarks.endings import ending
from benchmarks.keeping import Connection, ConnectionBroke, Reply
from benchmarks.machine import OtherLoad
from benchmarks.mixed_load import CODE, PAGE, STORY
from benchmarks.observing import Footprint, ObservedServer, total
from benchmarks.reliability_page import Finding, publish, yes
from decoding import strategies

OPTIONS = ("--cache-tokens", "8192", "--history", "50")
KEYS = ("soak-one", "soak-two", "soak-three", "soak-four")
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_ABORTED, _BAD, _LONG = 0.2, 0.1, 0.05
_WARM_UP = 1 / 3  # of the time
_SECONDS_TO_ANSWER = 180.0
_SECONDS_TO_CALM = 10.0
_SECONDS_BETWEEN_LOOKS = 5.0
_LONGEST_STAY = 1.5  # seconds, of a client that leaves
_LONG_PROMPTS = 8  # which the cache cannot hold all
_COUNTED = 10  # requests of each strategy whose tokens are added up
_MIB = 2**20
_PAGES = " ".join([PAGE] * 80)  # about two thousand tokens
_BAD_BODIES: Sequence[Mapping[str, Any]] = (
    {"prompt": "Hi", "n": 0},
    {"prompt": "Hi", "temperature": 3},
    {"prompt": "Hi", "max_tokens": 10**9},
    {"prompt": [[-1]]},
    {"prompt": ""},
    {"prompt": "Hi", "decoding": {"strategy": "nothing"}},
    {"prompt": "Hi", "no_such_field": True},
    {"prompt": "Hi", "model": "no-such-model"},
)


class Counted(NamedTuple):
    """Tokens, once by the answers and once by the metrics."""

    by_answers: int
    by_metrics: int


@dataclass
class Soak:
    """What happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    footprints: list[Footprint] = field(default_factory=list)
    canaries: list[bool] = field(default_factory=list)  # whether each was as at the start


def main() -> None:
    """Run from the command line."""
    options = _options()
    server = ObservedServer((*OPTIONS, *options.server), KEYS)
    try:
        rows, other_load = asyncio.run(_measure(server, options))
        rows.append(_log_finding(server.log()))
    finally:
        status = server.stop()
    rows.append(Finding("Exit status at the end", str(status), "0", status == 0))
    publish("soak", rows, other_load, is_kept=options.write)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    return observing.options(parser)


async def _measure(
    server: ObservedServer, options: argparse.Namespace
) -> tuple[list[Finding], float]:
    model = await server.until_ready()
    canary = _Canary(server, model)
    await canary.learn()
    await _fill(server, model)
    workers, idle = server.worker_ids(), server.footprint()
    other_load, soak = OtherLoad(), Soak()
    begun = time.monotonic()
    ends = begun + 60 * options.minutes
    await _soaked(server, model, soak, canary, options.clients, ends)
    is_idle = await server.until_idle(_SECONDS_TO_ANSWER)
    await asyncio.sleep(_SECONDS_TO_CALM)
    idle_again = server.footprint()
    cache_in_use = total(await server.metrics(), "stride_kv_cache_usage_ratio")
    canaries = [*soak.canaries, await canary.is_as_ever()]
    kept = is_idle and await server.gives_all_permits(model)
    counted = await _counted(server, model)
    alive = server.worker_ids() == workers
    warm = [each for each in soak.footprints if each.at >= begun + _WARM_UP * (ends - begun)]
    rows = [
        Finding("It took", f"{options.minutes:g} minutes, warm-up a third of them"),
        outcomes_finding(soak.outcomes),
        *growth_findings(warm),
        _flat("Open files of the API process, idle before and after", idle.files, idle_again.files),
        _flat("Threads, after the warm-up and at the end", warm[0].threads, idle_again.threads),
        yes("Permits: as many answers as may be are taken at once afterwards", kept),
        Finding("KV cache in use afterwards", f"{cache_in_use:.1%}", "0%", not cache_in_use),
        canaries_finding(canaries),
        *(counted_finding(name, each) for name, each in counted.items()),
        yes("Workers are the same as before", alive),
    ]
    return rows, other_load.share()


async def _soaked(
    server: ObservedServer, model: str, soak: Soak, canary: "_Canary", clients: int, ends: float
) -> None:
    """Let so many clients ask until then, and watch the server meanwhile."""
    watching = asyncio.create_task(_watch(server, soak, canary, ends))
    connections = map(server.connection, range(clients))
    asking = (_client(each, n, model, soak, ends) for n, each in enumerate(connections))
    await asyncio.gather(*asking)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def _fill(server: ObservedServer, model: str) -> None:
    """Touch every block of the cache: memory that was only promised before is no growth after."""
    for number in range(_LONG_PROMPTS):
        await server.ask(CHAT, {"model": model, "max_tokens": 1, **_chat(f"{number}. {_PAGES}")})


# --- who asks for what ---


async def _client(connection: Connection, number: int, model: str, soak: Soak, ends: float) -> None:
    draw = random.Random(number)
    while time.monotonic() < ends:
        share = draw.random()
        if share < _BAD:
            bad = {"model": model, **draw.choice(_BAD_BODIES)}
            outcome = f"bad: {await _outcome(connection, COMPLETIONS, bad, _SECONDS_TO_ANSWER)}"
        elif share < _BAD + _ABORTED:
            stay = draw.uniform(0, _LONGEST_STAY)
            left = await _outcome(connection, *any_request(draw, model), stay)
            outcome = "left" if left == "no answer" else f"about to leave: {left}"
        else:
            is_long = share > 1 - _LONG
            path, body = long_request(draw, model) if is_long else any_request(draw, model)
            outcome = await _outcome(connection, path, body, _SECONDS_TO_ANSWER)
        soak.outcomes[outcome] += 1
    connection.close()


async def _outcome(
    connection: Connection, path: str, body: Mapping[str, Any], seconds: float
) -> str:
    try:
        async with asyncio.timeout(seconds):
            reply = await connection.post(path, body)
    except TimeoutError:
        return "no answer"
    except ConnectionBroke as error:
        return f"connection broke ({error})"
    return ending(reply.status, reply.headers, reply.body, is_stream=bool(body.get("stream")))


def any_request(draw: random.Random, model: str, strategy: str = "") -> tuple[str, dict[str, Any]]:
    """A request of some kind, by any strategy unless one is given."""
    strategy = strategy or draw.choice(("auto", *strategies.names()))
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": draw.randint(1, 64),
        "temperature": draw.choice((0, 0.7)),
        "decoding": {"strategy": strategy},
    }
    if draw.random() < 0.5:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if strategy == "skeleton":
        return CHAT, body | _chat("What are the benefits of regular exercise?")
    if draw.random() < 0.2:
        body |= {"n": 2}
    asking = draw.choice(
        (
            _chat(STORY),
            _chat(f"Is {draw.randint(0, 999)} a prime number?"),
            _chat("When was the lamp first lit? Quote it.") | {"documents": [PAGE]},
            _chat(f"Output this:\n{CODE}") | {"prediction": {"type": "content", "content": CODE}},
            {"prompt": f"{draw.randint(0, 999)}, "},
            {"prompt": "1, 2, 3, 4,", "stop": [" 9"], "logprobs": 2},
        )
    )
    return (CHAT if "messages" in asking else COMPLETIONS), body | asking


def long_request(draw: random.Random, model: str) -> tuple[str, dict[str, Any]]:
    """A request with a long prompt or a long answer."""
    path, body = any_request(draw, model, "auto")
    if draw.random() < 0.5:
        return path, body | {"max_tokens": 400}
    return CHAT, {"model": model, "max_tokens": 32, "stream": True, **_chat(_PAGES)}


def _chat(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


# --- what is looked at ---


class _Canary:
    """The same greedy question by every lossless strategy: all answers are always the same."""

    def __init__(self, server: ObservedServer, model: str) -> None:
        self._server = server
        self._model = model
        self._answer = ""

    async def learn(self) -> None:
        """Ask for the first time, plainly."""
        self._answer = await self._ask("autoregressive")

    async def is_as_ever(self) -> bool:
        """Whether nothing has changed."""
        names = [name for name in strategies.names() if strategies.is_lossless(name)]
        return all([await self._ask(name) == self._answer for name in names])

    async def _ask(self, strategy: str) -> str:
        body = {"model": self._model, "temperature": 0, "max_tokens": 32, **_chat(STORY)}
        reply = await self._server.ask(CHAT, body | {"decoding": {"strategy": strategy}})
        return str(reply.json["choices"][0]["message"]["content"])


async def _watch(server: ObservedServer, soak: Soak, canary: _Canary, ends: float) -> None:
    said = time.monotonic()
    while True:
        soak.footprints.append(server.footprint())
        if time.monotonic() - said > 60:
            said = time.monotonic()
            soak.canaries.append(await canary.is_as_ever())
            print(_progress(soak, ends), flush=True)
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)


def _progress(soak: Soak, ends: float) -> str:
    last = soak.footprints[-1]
    memory = f"{last.server_bytes / _MIB:.1f} + {last.worker_bytes / _MIB:.1f} MiB"
    asked = soak.outcomes.total()
    return f"{(ends - time.monotonic()) / 60:.0f} min to go: {asked:,} requests, {memory}"


async def _counted(server: ObservedServer, model: str) -> dict[str, Counted]:
    """Requests of every strategy, their tokens added up by the answers and by the metrics."""
    connection, found = server.connection(), {}
    for strategy in strategies.names():
        draw, by_answers = random.Random(strategy), 0
        before = _generated(await server.metrics(), strategy)
        for _ in range(_COUNTED):
            reply = await connection.post(*any_request(draw, model, strategy))
            by_answers += tokens_in(reply)
        after = _generated(await server.metrics(), strategy)
        found[strategy] = Counted(by_answers, round(after - before))
    connection.close()
    return found


def _generated(page: str, strategy: str) -> float:
    return total(page, "stride_generation_tokens_total", {"strategy": strategy})


def tokens_in(reply: Reply) -> int:
    """Tokens of an answer by its own account, whole or streamed; none of a refusal."""
    if reply.status != 200:
        return 0
    if reply.headers.get("content-type", "").startswith("text/event-stream"):
        *_, last, _ = reply.body.decode().strip().split("\n\n")  # the usage, and the end mark
        return int(json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"])
    return int(reply.json["usage"]["completion_tokens"])


# --- what it says ---


def outcomes_finding(outcomes: Counter[str]) -> Finding:
    """What became of all requests: no error of the server's, no connection that broke."""
    text = ", ".join(f"{number:,} {what}" for what, number in outcomes.most_common())
    is_met = all(is_expected(what) for what in outcomes)
    return Finding("What became of the requests", text, "answered, or refused if bad", is_met)


def is_expected(outcome: str) -> bool:
    """Whether a request may end like this: only bad ones are refused."""
    if outcome.startswith("bad: "):
        return outcome.startswith("bad: 4")
    return outcome.removeprefix("about to leave: ") in ("answered", "left")


def growth_findings(warm: Sequence[Footprint]) -> list[Finding]:
    """How much memory grew a minute, by the line that fits all looks best."""
    minutes = [(each.at - warm[0].at) / 60 for each in warm]
    found = []
    for name, sizes in (
        ("API process", [each.server_bytes / _MIB for each in warm]),
        ("worker", [each.worker_bytes / _MIB for each in warm]),
    ):
        slope = linear_regression(minutes, sizes).slope
        ends = f"{sizes[0]:.1f} → {sizes[-1]:.1f} MiB in {minutes[-1]:.1f} min"
        text = f"{slope:+.2f} MiB/min ({ends}, highest {max(sizes):.1f})"
        found.append(Finding(f"Memory of the {name}", text, "< 1 MiB/min", slope < 1))
    return found


def canaries_finding(canaries: Sequence[bool]) -> Finding:
    """Whether the same question had the same answer every time, amid the load and after it."""
    text = f"{sum(canaries)} of {len(canaries)} times, every lossless strategy each time"
    return Finding("Greedy answer byte for byte as at the start", text, "always", all(canaries))


def counted_finding(strategy: str, counted: Counted) -> Finding:
    """Whether the metrics counted what the answers said."""
    text = f"{counted.by_answers} by the answers, {counted.by_metrics} by the metrics"
    title = f"Tokens of {_COUNTED} requests by {strategy}"
    return Finding(title, text, "equal", counted.by_answers == counted.by_metrics)


def _log_finding(log: str) -> Finding:
    tracebacks = log.count("Traceback")
    keys = sum(key in log for key in KEYS)
    text = f"{tracebacks} tracebacks, {keys} keys"
    return Finding("In the log", text, "neither", not (tracebacks or keys))


def _flat(title: str, before: int, after: int) -> Finding:
    return Finding(title, f"{before} → {after}", "no more", after <= before)


if __name__ == "__main__":
    main()
