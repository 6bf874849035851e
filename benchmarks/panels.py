"""The panels of the Grafana dashboard, as its JSON has them, with data from Prometheus."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.processes import ROOT
from benchmarks.prometheus import Prometheus, Series

DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "stride.json"
_LEGEND_LABEL = re.compile(r"{{(\w+)}}")


class Place(NamedTuple):
    """Where a panel is on the grid of 24 columns."""

    x: int
    y: int
    w: int
    h: int


class Target(NamedTuple):
    """A query and what its answers are called."""

    expression: str
    legend: str
    is_instant: bool


class Panel(NamedTuple):
    """What a panel says about itself."""

    title: str
    kind: str
    unit: str
    place: Place
    targets: Sequence[Target]
    empty: str
    is_stacked: bool
    most: float | None
    steps: Sequence[tuple[float | None, str]]
    colours: Mapping[str, str]  # by regular expression


class Line(NamedTuple):
    """An answer and its name."""

    name: str
    values: Mapping[float, float]


class Window(NamedTuple):
    """The time that a dashboard shows, and over how long it takes rates."""

    begin: float
    end: float
    rate_seconds: int


def panels() -> Iterator[Panel]:
    """All of them, headings included."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        yield _heading(panel) if panel["type"] == "row" else _panel(panel)


def lines(prometheus: Prometheus, panel: Panel, window: Window) -> list[Line]:
    """What Prometheus answers to the queries of a panel."""
    found: list[Line] = []
    for target in panel.targets:
        expression = _substituted(target.expression, window)
        answers = (
            prometheus.now(expression)
            if target.is_instant
            else prometheus.between(expression, window.begin, window.end)
        )
        found += [Line(_name(target.legend, answer), answer.values) for answer in answers]
    return found


def _substituted(expression: str, window: Window) -> str:
    """The query as Grafana sends it."""
    for name, value in {
        "$__rate_interval": f"{window.rate_seconds}s",
        "$__range": f"{round(window.end - window.begin)}s",
        "$job": ".+",
        "$instance": ".+",
        "$model": ".+",
    }.items():
        expression = expression.replace(name, value)
    return expression


def _name(legend: str, answer: Series) -> str:
    return _LEGEND_LABEL.sub(lambda match: answer.labels.get(match[1], ""), legend)


def _heading(panel: dict[str, Any]) -> Panel:
    return Panel(panel["title"], "row", "", Place(**panel["gridPos"]), [], "", False, None, [], {})


def _panel(panel: dict[str, Any]) -> Panel:
    config = panel["fieldConfig"]
    values = config["defaults"]
    return Panel(
        title=panel["title"],
        kind=panel["type"],
        unit=values["unit"],
        place=Place(**panel["gridPos"]),
        targets=[Target(t["expr"], t["legendFormat"], t["instant"]) for t in panel["targets"]],
        empty=values["noValue"],
        is_stacked=values.get("custom", {}).get("stacking", {}).get("mode") == "normal",
        most=values.get("max"),
        steps=[(step["value"], step["color"]) for step in values["thresholds"]["steps"]],
        colours={
            override["matcher"]["options"].strip("/"): override["properties"][0]["value"][
                "fixedColor"
            ]
            for override in config["overrides"]
        },
    )
