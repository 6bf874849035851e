"""Lines stand where their values are, in colours that mean the same in every panel."""

import xml.etree.ElementTree as ElementTree

from benchmarks.line_plot import Line, Panel, line_plots

NAMESPACE = {"svg": "http://www.w3.org/2000/svg"}


def panel(lines: dict[str, Line], *, doubles: bool = True) -> Panel:
    return Panel("A title", "W", "tokens", lines, doubles)


def drawn(*panels: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(line_plots(panels))


def places(picture: ElementTree.Element) -> list[tuple[float, float]]:
    circles = picture.findall(".//svg:circle", NAMESPACE)
    return [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in circles]


def test_doublings_are_equally_far_apart() -> None:
    (first, _), (second, _), (third, _) = places(
        drawn(panel({"a": Line([(1, 1), (2, 2), (4, 3)])}))
    )
    assert second - first == third - second > 0


def test_equal_steps_stay_equal_where_nothing_doubles() -> None:
    line = Line([(3, 1), (4, 2), (8, 3)])
    (first, _), (second, _), (third, _) = places(drawn(panel({"a": line}, doubles=False)))
    assert round(third - second, 3) == round(4 * (second - first), 3)


def test_more_is_higher() -> None:
    (_, low), (_, high) = places(drawn(panel({"a": Line([(1, 1.1), (2, 1.9)])})))
    assert high < low


def test_a_line_that_never_changes_can_be_drawn() -> None:
    assert len(places(drawn(panel({"a": Line([(1, 0), (2, 0)])})))) == 2


def test_a_name_has_one_colour_in_all_panels() -> None:
    one, other = Line([(1, 1), (2, 2)]), Line([(1, 2), (2, 1)])
    picture = drawn(panel({"a": one, "b": other}), panel({"b": other}))
    colours = [line.attrib["stroke"] for line in picture.findall(".//svg:polyline", NAMESPACE)]
    assert colours[0] != colours[1] == colours[2]


def test_what_is_compared_with_is_dashed() -> None:
    picture = drawn(panel({"a": Line([(1, 1), (2, 2)], dashed=True)}))
    assert "stroke-dasharray" in picture.find(".//svg:polyline", NAMESPACE).attrib  # type: ignore[union-attr]


def test_a_name_cannot_break_the_picture() -> None:
    picture = drawn(panel({"a < b & c": Line([(1, 1), (2, 2)])}))
    assert any(each.text == "a < b & c" for each in picture.findall(".//svg:text", NAMESPACE))
