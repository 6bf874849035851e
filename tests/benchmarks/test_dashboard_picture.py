"""The picture of the dashboard: every panel is drawn, with data or without."""

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.dashboard_picture import picture, written
from benchmarks.panels import Line, Panel, Window, panels

WINDOW = Window(begin=1000.0, end=1060.0, rate_seconds=10)
TIMES = [1000.0 + second for second in range(61)]


def lines_for(panel: Panel, value: float) -> list[Line]:
    return [Line(target.legend, dict.fromkeys(TIMES, value)) for target in panel.targets]


@pytest.mark.parametrize("value", [0.0, 0.3, 7e9, float("nan")])
def test_every_panel_is_drawn(value: float) -> None:
    shown = [(panel, lines_for(panel, value)) for panel in panels()]
    drawing = picture("a run", shown, WINDOW)
    ElementTree.fromstring(drawing)
    assert "nan" not in drawing
    for panel, _ in shown:
        assert panel.title in drawing


def test_a_panel_without_data_says_so() -> None:
    shown = [(panel, []) for panel in panels()]
    drawing = picture("a run", shown, WINDOW)
    assert all(panel.empty in drawing for panel, _ in shown)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.1234, "percentunit", "12.3%"),
        (0.012, "s", "12 ms"),
        (2.5, "s", "2.5 s"),
        (1.618, "suffix:×", "1.62×"),
        (3 << 20, "bytes", "3 MiB"),
        (5 << 30, "bytes", "5 GiB"),
        (12_300, "short", "12.3 k"),
        (0.5, "reqps", "0.5 /s"),
    ],
)
def test_values_are_short_and_have_their_unit(value: float, unit: str, words: str) -> None:
    assert written(value, unit) == words
