"""Small multiples as SVG: a panel a category, a bar a server. Readable on light and dark pages."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import cycle

from benchmarks.side_by_side import ways
from benchmarks.side_by_side.findings import Findings, middle, whole
from benchmarks.side_by_side.run import ALONE
from benchmarks.side_by_side.sessions import LIST
from benchmarks.side_by_side.ways import Way

Panels = Mapping[str, Mapping[str, float | None]]
"""By title the bars of a panel, by name; None where there is nothing."""

_STRIDE = "#2f6fed"
_PEERS = ("#e8912d", "#f4b860", "#5fa777", "#8cc7a1", "#3f7d5a", "#9a7fd1", "#c9a2e8")
_COLUMNS, _PANEL, _MARGIN, _GAP = 3, 300, 24, 20
_TITLE, _SUBTITLE, _HEAD, _BAR, _SPACE, _LEGEND, _FOOT = 30, 22, 30, 15, 5, 24, 14
_LETTER = 6.6  # the width of one in the legend
_VALUE = 74  # room behind a bar

# The card has a ground of its own, so it can be read wherever it is put; where the reader's
# system is dark it is dark as well.
_STYLE = """<style>
  .card { fill: #ffffff; stroke: #d9dce1 }
  .ink { fill: #1f2328 } .faint { fill: #656d76 } .rail { fill: #f0f2f5 }
  text { font-family: system-ui, -apple-system, 'Segoe UI', sans-serif; font-size: 12px }
  @media (prefers-color-scheme: dark) {
    .card { fill: #161b22; stroke: #30363d }
    .ink { fill: #e6edf3 } .faint { fill: #9198a1 } .rail { fill: #21262d }
  }
</style>"""


def by_category(found: Findings) -> str:
    """End to end with one stream: medians."""
    compared = _compared(found)
    panels = {
        category: {way.name: middle(found.values(way.name, whole, category)) for way in compared}
        for category in found.categories
    }
    if found.way(ways.POINTS.name) and LIST in panels and ways.AUTO in compared:
        in_points = middle(found.values(ways.POINTS.name, whole, LIST))
        panels[f"{LIST}, points allowed"] = {**panels[LIST], ways.AUTO.name: in_points}
    subtitle = "Tokens a second from the question to the end of the answer, one stream; medians"
    return multiples("End to end, by category", subtitle, panels, _colours(compared))


def by_streams(found: Findings) -> str:
    """All streams together: medians of the rounds."""
    compared = _compared(found)
    panels = {
        "one stream" if streams == ALONE else f"{streams} streams": {
            way.name: middle(found.throughput(way.name, streams))
            for way in compared
            if way.takes_load
        }
        for streams in (ALONE, *found.streams)
    }
    subtitle = "Tokens a second of all streams together, all kinds of questions mixed"
    return multiples("Throughput, by number of streams", subtitle, panels, _colours(compared))


def _compared(found: Findings) -> list[Way]:
    return [way for way in found.ways if way == ways.AUTO or way.family != "Stride"]


def _colours(compared: Sequence[Way]) -> Mapping[str, str]:
    """The same for a server in every picture of a run."""
    names = [way.name for way in compared if way != ways.AUTO]
    return {ways.AUTO.name: _STRIDE, **dict(zip(names, cycle(_PEERS), strict=False))}


def multiples(title: str, subtitle: str, panels: Panels, colours: Mapping[str, str]) -> str:
    """Panels of bars, each with a scale of its own; the first bar of each is ours."""
    names = list(next(iter(panels.values())))
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width = 2 * _MARGIN + columns * _PANEL + (columns - 1) * _GAP
    legend = list(_legend_lines(names, width - 2 * _MARGIN))
    top = _MARGIN + _TITLE + _SUBTITLE + len(legend) * _LEGEND
    height = top + rows * _panel_height(len(names)) + _MARGIN
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}'"
        f" height='{height}' role='img'>",
        f"<title>{escape(title)}</title>",
        _STYLE,
        f"<rect class='card' x='0.5' y='0.5' width='{width - 1}' height='{height - 1}' rx='10'/>",
        _text(_MARGIN, _MARGIN + 14, title, size=19, weight=650),
        _text(_MARGIN, _MARGIN + _TITLE + 8, subtitle, kind="faint", size=13),
    ]
    lines += _legend(legend, colours)
    for index, (heading, bars) in enumerate(panels.items()):
        left = _MARGIN + index % columns * (_PANEL + _GAP)
        top_of_panel = top + index // columns * _panel_height(len(names))
        lines += _panel(heading, bars, colours, left, top_of_panel)
    return "\n".join([*lines, "</svg>", ""])


def _panel_height(bars: int) -> int:
    return _HEAD + bars * (_BAR + _SPACE) + _FOOT


def _legend_lines(names: Sequence[str], width: float) -> Iterator[list[tuple[float, str]]]:
    """The names with their places, in as many lines as they need."""
    line: list[tuple[float, str]] = []
    left = 0.0
    for name in names:
        needed = 20 + len(name) * _LETTER + 18
        if line and left + needed > width:
            yield line
            line, left = [], 0.0
        line.append((left, name))
        left += needed
    yield line


def _legend(
    lines: Sequence[Sequence[tuple[float, str]]], colours: Mapping[str, str]
) -> Iterator[str]:
    for number, line in enumerate(lines):
        top = _MARGIN + _TITLE + _SUBTITLE + number * _LEGEND
        for left, name in line:
            x = _MARGIN + left
            yield (
                f"<rect x='{x:.1f}' y='{top}' width='12' height='12' rx='3'"
                f" fill='{colours[name]}'/>"
            )
            yield _text(x + 18, top + 10.5, name)


def _panel(
    heading: str,
    bars: Mapping[str, float | None],
    colours: Mapping[str, str],
    left: float,
    top: float,
) -> Iterator[str]:
    most = max((value for value in bars.values() if value), default=1.0)
    length = _PANEL - _VALUE
    yield _text(left, top + 18, heading, size=13.5, weight=600)
    for number, (name, value) in enumerate(bars.items()):
        y = top + _HEAD + number * (_BAR + _SPACE)
        yield f"<rect class='rail' x='{left}' y='{y}' width='{length}' height='{_BAR}' rx='3'/>"
        if value is None:
            yield _text(left + 8, y + _BAR - 3.5, "no answer but loops", kind="faint", size=11)
            continue
        yield (
            f"<rect x='{left}' y='{y}' width='{max(value / most * length, 2):.1f}' height='{_BAR}'"
            f" rx='3' fill='{colours[name]}'>"
            f"<title>{escape(name)}: {value:.1f} tokens/s</title></rect>"
        )
        weight = 650 if number == 0 else 400
        yield _text(left + length + 8, y + _BAR - 3.5, f"{value:.0f}", weight=weight)


def _text(
    x: float, y: float, words: str, *, kind: str = "ink", size: float = 12, weight: int = 400
) -> str:
    return (
        f"<text class='{kind}' x='{x:.1f}' y='{y:.1f}' font-weight='{weight}'"
        f" style='font-size:{size}px'>{escape(words)}</text>"
    )
