"""A real Prometheus reads our files and our metrics, and answers every panel of the dashboard."""

import asyncio
import math
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from server_process import ServerProcess, wait_for

from benchmarks.mixed_load import MixedLoad
from benchmarks.panels import Line, Panel, Window, lines, panels
from benchmarks.prometheus import Prometheus, PrometheusMissing, Tools, tools, watching
from decoding.models import DEFAULT_MODEL

CONFIGURATION = Path(__file__).parents[2] / "docker" / "prometheus"
SECONDS_OF_LOAD = 15
RATE_SECONDS = 8
PANELS = [panel for panel in panels() if panel.kind != "row"]
RARE = {"Fallbacks", "Restarts", "Lost in flight"}  # not in a quiet quarter of a minute
# A second of work may be counted in the next one: its step ends there.
MOST = {"percentunit": 2, "s": 300, "reqps": 1000, "suffix:×": 100, "bytes": 1 << 40}


class Promtool(NamedTuple):
    """Prometheus' own checker, run with arguments and, if wanted, something to read."""

    program: str

    def __call__(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [self.program, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True)


@pytest.fixture(scope="module")
def prometheus_tools() -> Tools:
    """Those of this machine or of Debian's package; in continuous integration they must be."""
    try:
        return tools()
    except PrometheusMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def promtool(prometheus_tools: Tools) -> Promtool:
    return Promtool(prometheus_tools.promtool)


def test_the_configuration_is_valid(promtool: Promtool) -> None:
    checked = promtool("check", "config", str(CONFIGURATION / "prometheus.yml"))
    assert checked.returncode == 0, checked.stderr


def test_the_alerts_are_valid(promtool: Promtool) -> None:
    checked = promtool("check", "rules", str(CONFIGURATION / "alerts.yml"))
    assert checked.returncode == 0, checked.stderr


def test_alerts_fire_when_they_should(promtool: Promtool) -> None:
    tested = promtool("test", "rules", str(CONFIGURATION / "alerts_test.yml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


class Watched(NamedTuple):
    """A server that was watched while it answered all kinds of requests."""

    prometheus: Prometheus
    window: Window
    page: str


@pytest.fixture(scope="module")
def watched(real_server: ServerProcess, prometheus_tools: Tools) -> Iterator[Watched]:
    target = real_server.url.removeprefix("http://")
    with watching(target) as prometheus:
        wait_for(lambda: _up(prometheus) == [1], 30)
        begin = time.time()
        asyncio.run(MixedLoad(real_server.url, DEFAULT_MODEL, SECONDS_OF_LOAD).run(clients=3))
        page = httpx.get(f"{real_server.url}/metrics").text
        wait_for(lambda: _scraped(prometheus, page), 30)
        yield Watched(prometheus, Window(begin, time.time(), RATE_SECONDS), page)


def _up(prometheus: Prometheus) -> list[float]:
    return [value for series in prometheus.now("up") for value in series.values.values()]


def _scraped(prometheus: Prometheus, page: str) -> bool:
    """Whether the page as it was after the load has arrived."""
    (series,) = prometheus.now("sum(stride_generation_tokens_total)")
    (tokens,) = series.values.values()
    rows = [row for row in page.splitlines() if row.startswith("stride_generation_tokens_total{")]
    return tokens == sum(float(row.rsplit(" ", 1)[1]) for row in rows)


@pytest.mark.slow
def test_prometheus_reads_the_server(watched: Watched) -> None:
    assert _up(watched.prometheus) == [1]


@pytest.mark.slow
def test_the_metrics_follow_prometheus_conventions(watched: Watched, promtool: Promtool) -> None:
    """vLLM's names do not: a colon is for recording rules."""
    ours = "".join(row for row in watched.page.splitlines(True) if "vllm:" not in row)
    checked = promtool("check", "metrics", stdin=ours)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel.title}, {panel.kind}")
def test_a_panel_shows_what_happened(watched: Watched, panel: Panel) -> None:
    shown = lines(watched.prometheus, panel, watched.window)
    values = finite(shown)
    assert values or panel.title in RARE
    most = MOST.get(panel.unit, math.inf) if panel.most is None else panel.most
    assert all(-0.01 <= value <= most + 0.01 for value in values), values


def finite(shown: list[Line]) -> list[float]:
    values = [value for line in shown for value in line.values.values()]
    return [value for value in values if math.isfinite(value)]


@pytest.mark.slow
def test_every_strategy_has_its_line(watched: Watched) -> None:
    (mix,) = [panel for panel in PANELS if panel.title == "Mix"]
    names = {line.name for line in lines(watched.prometheus, mix, watched.window) if finite([line])}
    assert names == {"autoregressive", "jacobi", "lookahead", "reference", "skeleton"}


@pytest.mark.slow
def test_what_was_refused_and_who_left_is_shown(watched: Watched) -> None:
    for title, name in (("Turned away", "invalid"), ("Clients that left", "decode")):
        (panel,) = [panel for panel in PANELS if panel.title == title]
        shown = lines(watched.prometheus, panel, watched.window)
        assert max(finite([line for line in shown if line.name == name])) > 0
