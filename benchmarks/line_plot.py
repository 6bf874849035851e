"""Lines over a plane as an SVG: one panel a question, one line a setting.

The picture has a ground of its own, which follows the reader's colour scheme where the viewer says
which one it is: whatever is behind it, the text can be read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from math import ceil, floor, log2, log10
from typing import NamedTuple

Point = tuple[float, float]

_COLOURS = ("#3f83f8", "#e8871e", "#22a06b", "#d6457a", "#8b5cf6", "#7c8590")  # for both grounds
_STYLE = """<style>
.ground{fill:#ffffff;stroke:#d5dae0}.ink{fill:#24292f}.faint{fill:#57606a}.grid{stroke:#e3e7eb}
@media (prefers-color-scheme:dark){
.ground{fill:#161b22;stroke:#30363d}.ink{fill:#e6edf3}.faint{fill:#9aa4af}.grid{stroke:#2b323a}}
</style>"""
_FONT = "font-family='system-ui, sans-serif'"
_WIDTH, _HEIGHT = 330, 220  # of what lines are drawn on
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 22, 44, 54
_LEGEND_LINE, _LEGEND_COLUMNS = 20, 2
_ACROSS = 2  # panels beside each other
_TICKS = 5


class Line(NamedTuple):
    """What is drawn in one colour; ``dashed`` for what is compared with."""

    points: Sequence[Point]
    dashed: bool = False


class Panel(NamedTuple):
    """One plane: its lines by name, the same name in the same colour in all panels.

    ``doubles`` means that every step to the right is a doubling.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Line]
    doubles: bool = True


class _Scale(NamedTuple):
    """From a value to a place; ``ticks`` are the values that are written down."""

    low: float
    high: float
    ticks: Sequence[float]
    is_log: bool

    def share(self, value: float) -> float:
        """How far along the axis it is, 0..1."""
        if self.is_log:
            return log2(value / self.low) / log2(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def line_plots(panels: Sequence[Panel]) -> str:
    """Draw the panels, two in a row."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    legend = ceil(max(len(panel.lines) for panel in panels) / _LEGEND_COLUMNS) * _LEGEND_LINE
    across, down = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM + legend
    width = min(len(panels), _ACROSS) * across
    height = ceil(len(panels) / _ACROSS) * down + 8
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'"
        f" viewBox='0 0 {width} {height}' role='img' {_FONT}>",
        _STYLE,
        f"<rect class='ground' x='0.5' y='0.5' width='{width - 1}' height='{height - 1}' rx='8'/>",
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, _ACROSS)
        place = f"{column * across + _LEFT} {row * down + _TOP}"
        lines += [f"<g transform='translate({place})'>", *_drawn(panel, colours), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _drawn(panel: Panel, colours: Mapping[str, str]) -> Iterator[str]:
    points = [point for line in panel.lines.values() for point in line.points]
    across = _doublings if panel.doubles else _even
    x, y = across([point[0] for point in points]), _even([point[1] for point in points])
    yield _text(panel.title, -_LEFT + 20, -20, size=14, weight=600, anchor="start")
    yield from _axes(panel, x, y)
    for name, line in panel.lines.items():
        yield from _line(name, line, colours[name], x, y)
    yield from _legend(panel.lines, colours)


def _axes(panel: Panel, x: _Scale, y: _Scale) -> Iterator[str]:
    for value in y.ticks:
        at = _HEIGHT * (1 - y.share(value))
        yield f"<path class='grid' d='M0 {at:.1f}H{_WIDTH}'/>"
        yield _text(f"{value:g}", -8, at + 4, anchor="end", kind="faint")
    for value in x.ticks:
        at = _WIDTH * x.share(value)
        yield f"<path class='grid' d='M{at:.1f} 0V{_HEIGHT}'/>"
        yield _text(f"{value:g}", at, _HEIGHT + 18, kind="faint")
    yield _text(panel.x, _WIDTH / 2, _HEIGHT + 38)
    yield (
        f"<g transform='translate({-_LEFT + 20} {_HEIGHT / 2}) rotate(-90)'>"
        f"{_text(panel.y, 0, 0)}</g>"
    )


def _line(name: str, line: Line, colour: str, x: _Scale, y: _Scale) -> Iterator[str]:
    places = [(_WIDTH * x.share(a), _HEIGHT * (1 - y.share(b)), a, b) for a, b in line.points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top, _, _ in places)
    dashes = " stroke-dasharray='6 4'" if line.dashed else ""
    yield f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'{dashes}/>"
    for left, top, a, b in places:
        yield (
            f"<circle cx='{left:.1f}' cy='{top:.1f}' r='3.2' fill='{colour}'>"
            f"<title>{escape(name)}: {a:g}, {b:.2f}</title></circle>"
        )


def _legend(lines: Mapping[str, Line], colours: Mapping[str, str]) -> Iterator[str]:
    for number, (name, line) in enumerate(lines.items()):
        row, column = divmod(number, _LEGEND_COLUMNS)
        left, top = column * (_WIDTH + 20) / 2 - 20, _HEIGHT + 62 + row * _LEGEND_LINE
        dashes = " stroke-dasharray='6 4'" if line.dashed else ""
        yield (
            f"<path d='M{left} {top - 4}h22' stroke='{colours[name]}' stroke-width='2.5'{dashes}/>"
        )
        yield _text(name, left + 28, top, anchor="start")


def _text(
    text: str,
    x: float,
    y: float,
    *,
    size: int = 12,
    weight: int = 400,
    anchor: str = "middle",
    kind: str = "ink",
) -> str:
    return (
        f"<text class='{kind}' x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}'"
        f" text-anchor='{anchor}'>{escape(text)}</text>"
    )


# --- scales ----------------------------------------------------------------------------------


def _doublings(values: Iterable[float]) -> _Scale:
    """An axis on which a doubling is a step; powers of two are written down."""
    found = list(values)
    first, last = floor(log2(min(found)) + 1e-9), ceil(log2(max(found)) - 1e-9)
    last = max(last, first + 1)
    return _Scale(2.0**first, 2.0**last, [2.0**power for power in range(first, last + 1)], True)


def _even(values: Iterable[float]) -> _Scale:
    """An axis of equal steps between round numbers."""
    found = list(values)
    low, high = min(found), max(found)
    step = _round_step((high - low or abs(high) or 1.0) / _TICKS)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = [round(number * step, 10) for number in range(first, last + 1)]
    return _Scale(ticks[0], ticks[-1], ticks, False)


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, at least so much."""
    power = 10.0 ** floor(log10(least))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least))
