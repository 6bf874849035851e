"""Sends a real server what nobody would send on purpose, and looks at what it says.

``python -m benchmarks.fuzz --write``: schemathesis with the API in OpenAPI's words, bodies of our
own that are nearly right, and, without a server, whatever reads bytes of others.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import observing
from benchmarks.fuzz import bodies, decoders, guided
from benchmarks.fuzz.contract import document
from benchmarks.machine import OtherLoad
from benchmarks.observing import HOST, ObservedServer
from benchmarks.processes import ROOT, environment, python
from benchmarks.reliability_page import Finding, publish, yes

# Short answers: what is looked at is how they are asked for.
OPTIONS = ("--context-length", "512", "--cache-tokens", "2048")
_DEADLINE = "0.5"  # seconds, of every request that schemathesis sends
_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
_PROGRESS = 250
_GROWTH = 50 * 2**20  # bytes that memory may grow by
_CANARY = {"prompt": "1, 2, 3, 4, 5,", "max_tokens": 16, "temperature": 0}


class Tool(NamedTuple):
    """What schemathesis did and found."""

    requests: int
    failures: int
    said: str


def main() -> None:
    """Run from the command line."""
    options = _options()
    other_load, rows, notes = OtherLoad(), list[Finding](), list[str]()
    for decoded in decoders.fuzz(options.seconds, lambda name: print(f"{name} …", flush=True)):
        rows.append(_decoder_finding(decoded))
        notes += [decoded.fault] if decoded.fault else []
    rows += _guided(options.seconds)
    server = ObservedServer((*OPTIONS, *options.server))
    try:
        rows += _on_a_server(server, options, notes)
    finally:
        status = server.stop()
    rows.append(Finding("Exit status at the end", str(status), "0", status == 0))
    print(*notes, sep="\n")
    publish("fuzz", rows, other_load.share(), is_kept=options.write)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="bodies of our own")
    parser.add_argument("--cases", type=int, default=800, help="of schemathesis, for each endpoint")
    parser.add_argument("--seconds", type=float, default=60, help="for each decoder")
    return observing.options(parser)


def _guided(seconds: float) -> list[Finding]:
    """What atheris makes of the readers; nothing where it is not installed."""
    if not guided.is_installed():
        print("atheris is not installed: the readers were fed by Hypothesis alone", flush=True)
        return []
    rows = []
    for target in guided.TARGETS:
        print(f"{target}, guided …", flush=True)
        command = python("-m", "benchmarks.fuzz.guided", target, str(round(seconds)))
        with TemporaryDirectory() as directory:  # where it leaves the input that it failed with
            done = subprocess.run(
                command,
                cwd=directory,
                env={**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        if done.returncode:
            print(done.stderr[-3000:])
        rows.append(guided_finding(target, done.returncode, done.stderr))
    return rows


def guided_finding(target: str, status: int, said: str) -> Finding:
    """What atheris said at its end."""
    runs = re.search(r"Done (\d+) runs", said)
    text = f"{int(runs[1]) if runs else 0:,} inputs, {'one fault' if status else 'no fault'}"
    return Finding(f"The same for {target}, guided by atheris", text, "none", not status)


def _on_a_server(
    server: ObservedServer, options: argparse.Namespace, notes: list[str]
) -> list[Finding]:
    with asyncio.Runner() as runner:
        model = runner.run(server.until_ready())
        canary = runner.run(_canary(server, model))
        workers = server.worker_ids()

        def report(done: int) -> None:
            if done % _PROGRESS == 0:
                print(f"{done} bodies", flush=True)

        found = bodies.fuzz(server.connection(), model, options.examples, report)
        before = server.footprint()
        print("schemathesis …", flush=True)
        tool = _schemathesis(server, model, options.cases)
        notes += [*found.faults[:20], *([tool.said] if tool and tool.failures else [])]
        idle = runner.run(server.until_idle(60))
        after = server.footprint()
        same = runner.run(_canary(server, model)) == canary
        permits = idle and runner.run(server.gives_all_permits(model))
    grown = after.server_bytes + after.worker_bytes - before.server_bytes - before.worker_bytes
    log = server.log()
    return [
        bodies_finding(found.statuses, len(found.faults)),
        _tool_finding(tool),
        yes("Greedy answer byte for byte as before", same),
        yes("Workers are the same as before", server.worker_ids() == workers),
        yes("Permits: as many answers as may be are taken at once afterwards", permits),
        Finding(
            "Memory, while schemathesis asked",
            f"{grown / 2**20:+.1f} MiB",
            "≤ 50 MiB more",
            grown <= _GROWTH,
        ),
        yes("No traceback in the log", "Traceback" not in log),
    ]


async def _canary(server: ObservedServer, model: str) -> str:
    reply = await server.ask("/v1/completions", {"model": model, **_CANARY})
    return str(reply.json["choices"][0]["text"])


def _schemathesis(server: ObservedServer, model: str, cases: int) -> Tool | None:
    """Have the tool ask; None where it is not installed."""
    if (program := _program()) is None:
        return None
    with TemporaryDirectory() as directory:
        place = Path(directory) / "openapi.json"
        place.write_text(json.dumps(document(model)), encoding="utf-8")
        command = [
            *(program, "run", str(place)),
            *("--url", f"http://{HOST}:{server.port}"),
            *("--checks", ",".join(_CHECKS), "--phases", "coverage,fuzzing"),
            *("--max-examples", str(cases), "--seed", "1", "--workers", "2"),
            *("--header", f"x-stride-deadline: {_DEADLINE}", "--request-timeout", "60"),
            *("--continue-on-failure", "--no-color"),
        ]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return read_report(done.stdout + done.stderr)


def _program() -> str | None:
    """Where the tool is: beside this Python, or wherever the shell finds it."""
    beside = Path(sys.executable).with_name("schemathesis")
    return str(beside) if beside.exists() else shutil.which("schemathesis")


def read_report(said: str) -> Tool:
    """What the tool says at its end: how many requests it sent and how many different failures."""
    sent = re.search(r"(\d[\d,]*) generated", said)
    failed = re.search(r"(\d[\d,]*) unique failures?", said)
    numbers = [int(found[1].replace(",", "")) if found else 0 for found in (sent, failed)]
    return Tool(numbers[0], numbers[1], said)


def bodies_finding(statuses: Counter[int], faults: int) -> Finding:
    """What the bodies were answered with."""
    text = ", ".join(f"{number:,} × {status}" for status, number in sorted(statuses.items()))
    measured = f"{statuses.total():,} requests: {text}; {faults} faults"
    goal = "≥ 1,000; documented statuses and shapes"
    return Finding("Bodies nearly right", measured, goal, not faults and statuses.total() >= 1000)


def _tool_finding(tool: Tool | None) -> Finding:
    title, goal = "schemathesis", "≥ 2,000 requests, no failure"
    if tool is None:
        return Finding(title, "not installed: `pip install -e .[fuzz]`", goal, False)
    text = f"{tool.requests:,} requests, {tool.failures} failures"
    return Finding(title, text, goal, tool.requests >= 2000 and not tool.failures)


def _decoder_finding(found: decoders.Decoded) -> Finding:
    text = f"{found.examples:,} inputs, {'one fault' if found.fault else 'no fault'}"
    goal = "none but its own error"
    return Finding(f"Reader of {found.name}", text, goal, not found.fault)


if __name__ == "__main__":
    main()
