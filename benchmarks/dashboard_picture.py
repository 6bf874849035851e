"""Draws the dashboard as an SVG in Grafana's dark colours: not Grafana, but its panels and data."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from benchmarks.panels import Line, Panel, Window

_UNIT, _COLUMN, _GAP, _TOP = 30, 68, 8, 58
_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _LEGEND = 52, 14, 36, 42
_PAGE, _CARD, _EDGE, _GRID = "#111217", "#181b1f", "#2a2d34", "#26292f"
_TEXT, _FAINT = "#d5d6dc", "#8e8f99"
_PALETTE = ("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#37872D")
_LETTER = 5.9  # width of one at size 11
_SECONDS_OF_GAP = 1.5  # between values, for a line to be interrupted


class Box(NamedTuple):
    """A rectangle of the picture."""

    x: float
    y: float
    w: float
    h: float

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.h


class Scale(NamedTuple):
    """Where times and values are in a plot."""

    plot: Box
    window: Window
    most: float

    def x(self, time: float) -> float:
        """From left to right."""
        share = (time - self.window.begin) / (self.window.end - self.window.begin)
        return self.plot.x + share * self.plot.w

    def y(self, value: float) -> float:
        """From bottom to top."""
        return self.plot.bottom - min(value / self.most, 1) * self.plot.h


def picture(title: str, shown: Sequence[tuple[Panel, list[Line]]], window: Window) -> str:
    """The whole dashboard."""
    width = 24 * _COLUMN + 2 * _GAP
    height = _TOP + _GAP + max(panel.place.y + panel.place.h for panel, _ in shown) * _UNIT
    drawn = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img'"
        f" font-family='Inter, system-ui, sans-serif' font-size='12' fill='{_TEXT}'>",
        f"<title>{escape(title)}</title>",
        f"<rect width='100%' height='100%' fill='{_PAGE}'/>",
        text(20, 36, "Stride", size=22, weight=600),
        text(104, 36, title, colour=_FAINT, size=14),
    ]
    for panel, lines in shown:
        drawn += _panel(panel, [line for line in map(_finite, lines) if line.values], window)
    return "\n".join([*drawn, "</svg>", ""])


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    colour: str = _TEXT,
    size: float = 12,
    weight: int = 400,
) -> str:
    """Words at a place."""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='{colour}'"
        f" font-size='{size}' font-weight='{weight}'>{escape(words)}</text>"
    )


def _rectangle(box: Box, colour: str, *, opacity: float = 1, edge: str = "none") -> str:
    return (
        f"<rect x='{box.x:.1f}' y='{box.y:.1f}' width='{max(box.w, 0):.1f}' height='{box.h:.1f}'"
        f" rx='3' fill='{colour}' fill-opacity='{opacity}' stroke='{edge}'/>"
    )


def _finite(line: Line) -> Line:
    values = {time: value for time, value in line.values.items() if math.isfinite(value)}
    return line._replace(values=values)


def _panel(panel: Panel, lines: list[Line], window: Window) -> Iterator[str]:
    place = panel.place
    box = Box(
        _GAP + place.x * _COLUMN + _GAP / 2,
        _TOP + place.y * _UNIT + _GAP / 2,
        place.w * _COLUMN - _GAP,
        place.h * _UNIT - _GAP,
    )
    if panel.kind == "row":
        yield text(box.x + 4, box.y + 17, f"⌄ {panel.title}", size=15, weight=600)
        return
    yield _rectangle(box, _CARD, edge=_EDGE)
    if panel.kind == "stat":
        yield from _stat(panel, lines, box, window)
        return
    yield text(box.x + 12, box.y + 22, panel.title, size=13, weight=600)
    if not lines:
        middle = (box.x + box.w / 2, box.y + box.h / 2 + 8)
        yield text(*middle, panel.empty, anchor="middle", colour=_FAINT, size=15)
    elif panel.kind == "bargauge":
        yield from _bars(panel, lines, box)
    else:
        yield from _graph(panel, lines, box, window)


def _stat(panel: Panel, lines: list[Line], box: Box, window: Window) -> Iterator[str]:
    values = lines[0].values if lines else {}
    last = values[max(values)] if values else None
    colour = _FAINT if last is None else _step_colour(panel, last)
    yield _rectangle(box, colour, opacity=0.85)
    if len(values) > 1:
        most = max(values.values()) or 1
        plot = Box(box.x, box.y + box.h * 0.6, box.w, box.h * 0.4)
        yield _area(Scale(plot, window, most), values, {}, "#ffffff", 0.22)
    yield text(box.x + 12, box.y + 22, panel.title, size=13, weight=600, colour="#ffffff")
    words = panel.empty if last is None else written(last, panel.unit)
    middle = (box.x + box.w / 2, box.y + box.h / 2 + 22)
    yield text(*middle, words, anchor="middle", colour="#ffffff", size=34, weight=700)


def _bars(panel: Panel, lines: list[Line], box: Box) -> Iterator[str]:
    values = [(line.name, line.values[max(line.values)]) for line in lines]
    most = panel.most or max(value for _, value in values) * 1.1 or 1
    label = max(len(name) for name, _ in values) * _LETTER + 28
    left, width = box.x + label, box.w - label - 64
    space = (box.h - _MARGIN_TOP - 10) / len(values)
    for index, (name, value) in enumerate(values):
        top, height = box.y + _MARGIN_TOP + index * space, min(space - 5, 34)
        middle = top + height / 2 + 4
        colour = _step_colour(panel, value)
        yield text(left - 8, middle, name, anchor="end")
        yield _rectangle(Box(left, top, width, height), _GRID)
        yield _rectangle(Box(left, top, width * min(value / most, 1), height), colour, opacity=0.85)
        yield text(left + width + 8, middle, written(value, panel.unit), colour=colour, weight=600)


def _step_colour(panel: Panel, value: float) -> str:
    return [colour for least, colour in panel.steps if least is None or value >= least][-1]


def _graph(panel: Panel, lines: list[Line], box: Box, window: Window) -> Iterator[str]:
    if panel.is_stacked:  # layers without any height are nothing to see
        lines = [line for line in lines if any(line.values.values())] or lines
    plot = Box(
        box.x + _MARGIN_LEFT,
        box.y + _MARGIN_TOP,
        box.w - _MARGIN_LEFT - _MARGIN_RIGHT,
        box.h - _MARGIN_TOP - _LEGEND,
    )
    below = _stacked(lines) if panel.is_stacked else [{} for _ in lines]
    tops = [
        {time: value + under.get(time, 0) for time, value in line.values.items()}
        for line, under in zip(lines, below, strict=True)
    ]
    most = panel.most or max(max(top.values()) for top in tops) or panel.steps[-1][0] or 1
    spacing = _spacing(most, 2**20 if panel.unit == "bytes" else 1)
    scale = Scale(plot, window, max(math.ceil(most / spacing - 1e-9), 1) * spacing)
    yield from _axes(panel, scale, spacing)
    colours = [_colour(panel, index, line) for index, line in enumerate(lines)]
    for top, under, colour in zip(tops, below, colours, strict=True):
        for part in _unbroken(top):
            yield _area(scale, part, under, colour, 0.45 if panel.is_stacked else 0.07)
            yield _stroke(scale, part, colour)
    yield from _limits(panel, scale)
    yield from _legend(lines, colours, box)


def _stacked(lines: list[Line]) -> list[dict[float, float]]:
    """For every line, what lies below it."""
    total: dict[float, float] = {}
    below = []
    for line in lines:
        below.append({time: total.get(time, 0) for time in line.values})
        for time, value in line.values.items():
            total[time] = total.get(time, 0) + value
    return below


def _colour(panel: Panel, index: int, line: Line) -> str:
    fixed = (colour for name, colour in panel.colours.items() if re.search(name, line.name))
    return next(fixed, _PALETTE[index % len(_PALETTE)])


def _axes(panel: Panel, scale: Scale, spacing: float) -> Iterator[str]:
    plot = scale.plot
    for number in range(round(scale.most / spacing) + 1):
        y = scale.y(number * spacing)
        yield f"<path d='M{plot.x:.1f} {y:.1f}h{plot.w:.1f}' stroke='{_GRID}'/>"
        words = written(number * spacing, panel.unit)
        yield text(plot.x - 7, y + 4, words, anchor="end", colour=_FAINT, size=11)
    seconds = scale.window.end - scale.window.begin
    for share in (0, 0.25, 0.5, 0.75, 1):
        minutes, rest = divmod(round(share * seconds), 60)
        place = (plot.x + share * plot.w, plot.bottom + 15)
        yield text(*place, f"{minutes}:{rest:02}", anchor="middle", colour=_FAINT, size=10)


def _spacing(most: float, unit: int) -> float:
    """Between lines of the grid: three to six of them, at round multiples of a unit."""
    rough = most / 4 / unit
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough) * unit


def _unbroken(values: Mapping[float, float]) -> Iterator[dict[float, float]]:
    """The parts of a line between its gaps."""
    part: dict[float, float] = {}
    for time, value in sorted(values.items()):
        if part and time - max(part) > _SECONDS_OF_GAP:
            yield part
            part = {}
        part[time] = value
    yield part


def _points(scale: Scale, values: Mapping[float, float]) -> list[str]:
    return [f"{scale.x(time):.1f} {scale.y(value):.1f}" for time, value in sorted(values.items())]


def _area(
    scale: Scale,
    top: Mapping[float, float],
    below: Mapping[float, float],
    colour: str,
    opacity: float,
) -> str:
    base = {time: below.get(time, 0) for time in top}
    outline = "L".join([*_points(scale, top), *reversed(_points(scale, base))])
    return f"<path d='M{outline}Z' fill='{colour}' fill-opacity='{opacity}'/>"


def _stroke(scale: Scale, values: Mapping[float, float], colour: str) -> str:
    path = "L".join(_points(scale, values))
    return f"<path d='M{path}' fill='none' stroke='{colour}' stroke-width='1.6'/>"


def _limits(panel: Panel, scale: Scale) -> Iterator[str]:
    if (None, "transparent") not in panel.steps:
        return
    for least, colour in panel.steps:
        if least is not None and least <= scale.most:
            path = f"M{scale.plot.x:.1f} {scale.y(least):.1f}h{scale.plot.w:.1f}"
            yield f"<path d='{path}' stroke='{colour}' stroke-dasharray='7 5'/>"


def _legend(lines: list[Line], colours: list[str], box: Box) -> Iterator[str]:
    x, y = box.x + 14, box.bottom - 10
    for line, colour in zip(lines, colours, strict=True):
        width = 14 + len(line.name) * _LETTER
        if x + width > box.x + box.w:
            break
        yield _rectangle(Box(x, y - 7, 10, 4), colour)
        yield text(x + 14, y, line.name, size=11)
        x += width + 9


def written(value: float, unit: str) -> str:
    """A value with its unit, short."""
    if unit.startswith("suffix:"):
        return f"{value:.2f}{unit.removeprefix('suffix:')}"
    if unit == "percentunit":
        return f"{_short(value * 100)}%"
    if unit == "s":
        return f"{_short(value)} s" if value >= 1 or not value else f"{_short(value * 1000)} ms"
    if unit == "bytes":
        return f"{_short(value / 2**20)} MiB" if value < 2**30 else f"{_short(value / 2**30)} GiB"
    if value >= 10_000:
        return f"{_short(value / 1000)} k"
    return _short(value) + {"reqps": " /s", "ops": " /s"}.get(unit, "")


def _short(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
