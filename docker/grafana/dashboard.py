"""The Grafana dashboard: ``python docker/grafana/dashboard.py`` prints its JSON.

It belongs into ``docker/grafana/dashboards/stride.json``. ``panels.py`` has what is shown,
``queries.py`` what is asked for it.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from panels import COLOURS, GLANCE, GREY, ROWS, Panel
from queries import Query

WIDTH, STAT_HEIGHT, HEIGHT = 24, 4, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana reads it."""
    return {
        "uid": "stride",
        "title": "Stride",
        "description": "A Stride server: its service level, load, strategies and workers.",
        "tags": ["stride", "llm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(variables())},
        "annotations": {"list": []},
        "links": [],
        "panels": list(placed()),
    }


def variables() -> Iterator[dict[str, Any]]:
    """What is chosen at the top of the page."""
    yield {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
    }
    yield variable("job", "label_values(stride_build_info, job)")
    yield variable("model", 'label_values(stride_build_info{job=~"$job"}, model)')
    yield variable("instance", 'label_values(stride_build_info{job=~"$job"}, instance)')


def variable(name: str, query: str) -> dict[str, Any]:
    """Values of a label, all of them unless some are chosen."""
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,  # with the time range
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def placed() -> Iterator[dict[str, Any]]:
    """All panels and headings with a number and a place."""
    numbers = count(1)
    yield from line(GLANCE, 0, STAT_HEIGHT, numbers)
    top = STAT_HEIGHT
    for row in ROWS:
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {
            "id": next(numbers),
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        top += 1
        for panels in row.lines:
            yield from line(panels, top, HEIGHT, numbers)
            top += HEIGHT


def line(
    panels: Sequence[Panel], top: int, height: int, numbers: Iterator[int]
) -> Iterator[dict[str, Any]]:
    """Panels side by side."""
    width = WIDTH // len(panels)
    for index, panel in enumerate(panels):
        place = {"x": index * width, "y": top, "w": width, "h": height}
        yield {"id": next(numbers), "gridPos": place, **shown(panel)}


def shown(panel: Panel) -> dict[str, Any]:
    """A panel without its place."""
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": description(panel),
        "datasource": SOURCE,
        "targets": [
            target(query, chr(ord("A") + index), is_instant=panel.kind == "bargauge")
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": defaults(panel), "overrides": list(overrides(panel))},
        "options": OPTIONS[panel.kind],
    }


def description(panel: Panel) -> str:
    """Its text, and the metrics it is made of."""
    expressions = " ".join(query.expression for query in panel.queries)
    names = dict.fromkeys(re.findall(r"\b(?:stride|process)_\w+", expressions))
    return f"{panel.text}\n\nFrom {', '.join(f'`{name}`' for name in names)}."


def target(query: Query, name: str, *, is_instant: bool) -> dict[str, Any]:
    """A query."""
    return {
        "refId": name,
        "datasource": SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": is_instant,
        "range": not is_instant,
    }


def defaults(panel: Panel) -> dict[str, Any]:
    """Unit, colours, and what stands where there is no value."""
    has_limit = any(colour == "transparent" for _, colour in panel.steps)
    nothing = {"text": panel.is_empty, "color": GREY, "index": 0}
    values: dict[str, Any] = {
        "unit": panel.unit,
        "noValue": panel.is_empty,
        "mappings": [{"type": "special", "options": {"match": "null+nan", "result": nothing}}],
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in panel.steps],
        },
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "min": 0,
    }
    if panel.most is not None or (panel.kind, panel.unit) == ("bargauge", "percentunit"):
        values["max"] = panel.most or 1
    if panel.kind == "timeseries":
        values["custom"] = {
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1 if panel.stacked else 2,
            "fillOpacity": 45 if panel.stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if has_limit else "off"},
        }
    return values


def overrides(panel: Panel) -> Iterator[dict[str, Any]]:
    """The same thing has the same colour everywhere."""
    if panel.kind != "timeseries":
        return
    for query in panel.queries:
        for name, colour in COLOURS.get(query.legend, {}).items():
            yield {
                "matcher": {"id": "byRegexp", "options": f"/^{name}$/"},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
            }


LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {
        "colorMode": "background",
        "graphMode": "area",
        "justifyMode": "center",
        "textMode": "value",
        "orientation": "auto",
        "reduceOptions": LAST,
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "bargauge": {
        "displayMode": "gradient",
        "orientation": "horizontal",
        "showUnfilled": True,
        "reduceOptions": LAST,
    },
}


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
