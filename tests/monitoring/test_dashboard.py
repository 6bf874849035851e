"""The dashboard and the alerts are what their sources say, and ask for metrics that exist."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.panels import DASHBOARD, Panel, panels
from server.metrics import FIRST_TOKEN_BUCKETS, TOKEN_GAP_BUCKETS, Metrics

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
ALERTS = DOCKER / "prometheus" / "alerts.yml"
GUIDE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
PANELS = [panel for panel in panels() if panel.kind != "row"]
ROWS = ["Service level", "Saturation", "Strategies", "Workers"]
MODEL = "tiny/model"


def rules(path: Path = ALERTS) -> list[dict[str, Any]]:
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def asked_for() -> set[str]:
    """The metrics that queries name; parts of histograms count as the histogram."""
    queries = [target.expression for panel in PANELS for target in panel.targets]
    queries += [rule["expr"] for rule in rules()]
    names = re.findall(r"\bstride_\w+", " ".join(queries))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """What docs/metrics.md lists: another test compares that with what the server shows."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"`(stride_\w+)`", page))


def by_title(panel: Panel) -> str:
    return re.sub(r"\W+", "-", f"{panel.title} {panel.kind}".lower())


def test_the_dashboard_is_what_its_source_gives() -> None:
    source = DOCKER / "grafana" / "dashboard.py"
    printed = subprocess.run([sys.executable, str(source)], capture_output=True, check=True)
    assert printed.stdout.decode("utf-8") == DASHBOARD.read_text(encoding="utf-8")


def test_the_dashboard_asks_for_metrics_that_exist(exported: set[str]) -> None:
    assert asked_for() - exported == set()


def test_the_dashboard_has_its_rows() -> None:
    assert [panel.title for panel in panels() if panel.kind == "row"] == ROWS


def test_panels_do_not_overlap() -> None:
    cells = [
        (panel.place.x + x, panel.place.y + y)
        for panel in panels()
        for x in range(panel.place.w)
        for y in range(panel.place.h)
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


@pytest.mark.parametrize("panel", PANELS, ids=by_title)
def test_a_panel_can_be_read_without_knowing_it(panel: Panel) -> None:
    assert panel.unit
    assert panel.empty
    assert panel.kind == "stat" or all(t.legend and t.legend != "__auto" for t in panel.targets)


def test_descriptions_name_the_metrics_of_their_panels() -> None:
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        names = {
            name
            for target in panel.get("targets", [])
            for name in re.findall(r"\b(?:stride|process)_\w+", target["expr"])
        }
        assert names == set(re.findall(r"`(\w+)`", panel.get("description", "")))


@pytest.mark.parametrize(
    ("metric", "buckets"),
    [
        ("time_to_first_token_seconds", FIRST_TOKEN_BUCKETS),
        ("time_per_output_token_seconds", TOKEN_GAP_BUCKETS),
    ],
)
def test_objectives_are_boundaries_of_their_histograms(
    metric: str, buckets: tuple[float, ...]
) -> None:
    (goodput,) = [panel for panel in PANELS if panel.title == "Goodput"]
    (expression,) = [t.expression for t in goodput.targets if metric in t.expression]
    (boundary,) = re.findall(r'le="([\d.]+)"', expression)
    assert boundary in {str(float(bucket)) for bucket in buckets}


def test_the_objective_for_first_tokens_is_that_of_its_alert() -> None:
    (panel,) = [panel for panel in PANELS if panel.title == "Time to first token"]
    (alert,) = [rule for rule in rules() if rule["alert"] == "StrideSlowFirstToken"]
    assert panel.steps[-1][0] == float(alert["expr"].split(">")[1])


def test_queries_select_a_model_where_metrics_have_one() -> None:
    has_model = {
        sample.name: "model" in sample.labels
        for family in Metrics(MODEL).registry.collect()
        for sample in family.samples
    }
    queries = " ".join(target.expression for panel in PANELS for target in panel.targets)
    for name, labels in re.findall(r"\b(stride_\w+){([^}]*)}", queries):
        assert has_model.get(name) in (None, "$model" in labels), name


def test_every_alert_is_explained() -> None:
    assert {rule["alert"] for rule in rules()} == set(re.findall(r"`(Stride\w+)`", GUIDE))


def test_every_alert_is_tested_firing_and_silent() -> None:
    tests = yaml.safe_load((ALERTS.parent / "alerts_test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for fires in (True, False):
        tested = {case["alertname"] for case in cases if bool(case["exp_alerts"]) == fires}
        assert tested == {rule["alert"] for rule in rules()}


def test_grafana_finds_the_dashboard_and_its_source() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards/stride.yaml").read_text())["providers"]
    assert source["type"] == "prometheus"
    assert provider["options"]["path"].endswith("dashboards")
