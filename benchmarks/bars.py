"""Stacked bars as an SVG: one bar a thing measured, one colour a part of it."""

from collections.abc import Iterator, Mapping
from html import escape

_COLOURS = ("#4269d0", "#efb118", "#6cc5b0", "#9498a0")
_LEFT, _WIDTH, _RIGHT = 250, 560, 90
_BAR, _GAP, _TOP, _LEGEND = 26, 12, 16, 34
_FONT = "font-family='system-ui, sans-serif' font-size='13'"


def stacked_bars(bars: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Draw bars of equal scale, each with the same parts in the same order."""
    longest = max(sum(parts.values()) for parts in bars.values())
    height = _TOP + len(bars) * (_BAR + _GAP) + _LEGEND
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_LEFT + _WIDTH + _RIGHT}'"
        f" height='{height}' role='img'>",
        "<rect width='100%' height='100%' fill='#ffffff'/>",
    ]
    for index, (title, parts) in enumerate(bars.items()):
        lines += _bar(title, parts, _TOP + index * (_BAR + _GAP), _WIDTH / longest, unit)
    lines += _legend(next(iter(bars.values())), height - _LEGEND / 2)
    return "\n".join([*lines, "</svg>", ""])


def _bar(
    title: str, parts: Mapping[str, float], top: float, scale: float, unit: str
) -> Iterator[str]:
    middle = top + _BAR / 2 + 5
    yield f"<text x='{_LEFT - 10}' y='{middle}' text-anchor='end' {_FONT}>{escape(title)}</text>"
    left = float(_LEFT)
    for colour, (name, value) in zip(_COLOURS, parts.items(), strict=True):
        width = value * scale
        yield (
            f"<rect x='{left:.1f}' y='{top}' width='{width:.1f}' height='{_BAR}' fill='{colour}'>"
            f"<title>{escape(name)}: {value:.2f} {unit}</title></rect>"
        )
        left += width
    yield (
        f"<text x='{left + 8:.1f}' y='{middle}' {_FONT} font-weight='600'>"
        f"{sum(parts.values()):.1f} {unit}</text>"
    )


def _legend(parts: Mapping[str, float], middle: float) -> Iterator[str]:
    for index, (colour, name) in enumerate(zip(_COLOURS, parts, strict=True)):
        left = 20 + index * 215
        yield f"<rect x='{left}' y='{middle - 6}' width='12' height='12' fill='{colour}'/>"
        yield f"<text x='{left + 18}' y='{middle + 5}' {_FONT}>{escape(name)}</text>"
