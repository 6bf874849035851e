"""Outlines as models write them become headings, and headings become the points asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoding import strategies
from decoding.draft import Draft, Fork, Strategy, Verdict, Written
from decoding.request import OptionValue
from decoding.strategies.skeleton import decode, headings_of, lead

HEADINGS = ["Water and food", "A map", "Warm clothes"]
OUTLINE = " Water and food\n2. A map\n3. Warm clothes"
LONGEST = 80


@pytest.mark.parametrize(
    ("outline", "headings"),
    [
        ("1. Water and food\n2. A map\n3. Warm clothes", HEADINGS),
        ("1) Water and food\n2) A map\n3) Warm clothes", HEADINGS),
        ("1: Water and food\n2: A map\n3: Warm clothes", HEADINGS),
        ("1.Water and food\n2.A map\n3.Warm clothes", HEADINGS),
        ("1．Water and food\n2、A map\n3：Warm clothes", HEADINGS),
        ("  1. Water and food\n\n  2. A map\n\n  3. Warm clothes\n", HEADINGS),
        ("1. **Water and food**\n2. *A map*\n3. __Warm clothes__", HEADINGS),
        ("**1. Water and food**\n**2. A map**\n**3. Warm clothes**", HEADINGS),
        ("## 1. Water and food\n## 2. A map\n## 3. Warm clothes", HEADINGS),
        ("- 1. Water and food\n- 2. A map\n- 3. Warm clothes", HEADINGS),
        ("1. Water and food: never go without\n2. **A map:** of paper\n3. Warm clothes", HEADINGS),
        ("1. Water and food - a litre\n2. A map – of paper\n3. Warm clothes — two", HEADINGS),
        ("1. Water and food. A litre at least.\n2. A map.\n3. Warm clothes.", HEADINGS),
        ("1. Water and food; much\n2. A map;\n3. Warm clothes", HEADINGS),
        ('1. "Water and food"\n2. “A map”\n3. Warm clothes', HEADINGS),
        ("1. Water and food 2. A map 3. Warm clothes", HEADINGS),
        ("1) Water and food 2) A map 3) Warm clothes", HEADINGS),
        ("1. 1. Water and food\n2. A map\n3. Warm clothes", HEADINGS),
        ("Here it is:\n1. Water and food\n2. A map\n- of paper\n3. Warm clothes\nDone.", HEADINGS),
        ("1. Water and food\r\n2. A map\r\n3. Warm clothes\r\n", HEADINGS),
        ("9. Water and food\n10. A map\n11. Warm clothes", HEADINGS),
        ("1. 水和食物\n2. 地图\n3. 保暖衣物", ["水和食物", "地图", "保暖衣物"]),
        ("1、水和食物：很重要\n2、地图。纸质\n3、保暖衣物——两件", ["水和食物", "地图", "保暖衣物"]),
        ("1. 「水と食べ物」\n2. 地図；紙\n3. 暖かい服", ["水と食べ物", "地図", "暖かい服"]),
        ("1. Python 3.12\n2. Node.js basics", ["Python 3.12", "Node.js basics"]),
        ("1. Well-being\n2. 24/7 support", ["Well-being", "24/7 support"]),
    ],
)
def test_headings_are_found_in_lists_of_many_kinds(outline: str, headings: list[str]) -> None:
    assert headings_of(outline) == headings


@pytest.mark.parametrize(
    "outline",
    [
        "",
        "Just prose, no list.",
        "1.",
        "1. ",
        "1. ***",
        "1. : nothing before it",
        "- Water\n- Map",
        "3.5 litres of water",
        "10:30 breakfast",
        "1.1 Water",
        "2024. A year",
        f"1. {'long ' * 17}",
    ],
)
def test_what_is_no_heading_is_left_out(outline: str) -> None:
    assert headings_of(outline) == []


def test_a_heading_may_be_so_long_and_no_longer() -> None:
    assert headings_of(f"1. {'x' * LONGEST}") == ["x" * LONGEST]
    assert headings_of(f"1. {'x' * (LONGEST + 1)}") == []


@pytest.mark.parametrize(
    ("outline", "headings"),
    [
        ("1. A map\n2. A map\n3. a MAP", ["A map"]),
        ("1. Learn from mistakes\n2. Learn from your mistakes", ["Learn from mistakes"]),
        ("1. 保持健康饮食\n2. 保持健康的饮食", ["保持健康饮食"]),
        ("1. Less sleep\n2. More sleep", ["Less sleep", "More sleep"]),
        ("1. 水\n2. 水果", ["水", "水果"]),
    ],
)
def test_a_heading_that_says_another_one_again_is_left_out(
    outline: str, headings: list[str]
) -> None:
    assert headings_of(outline) == headings


LINES = st.text(alphabet='12. )：:、-*#"「 \n\r\u2028abAB水の', max_size=60) | st.text(max_size=40)


@given(LINES)
def test_any_text_has_headings_that_can_be_asked_for(text: str) -> None:
    headings = headings_of(text)
    assert len(headings) == len(set(headings)) <= text.count(".") + sum(map(text.count, "．)、:："))
    for heading in headings:
        assert 0 < len(heading) <= LONGEST
        assert heading == heading.strip()
        assert len(heading.splitlines()) == 1
        assert heading in text


@given(st.lists(st.sampled_from(["Map", "Food", "Water", "Rope", "水", "地图", "服"]), unique=True))
def test_the_headings_of_a_plain_list_are_its_lines(headings: list[str]) -> None:
    assert headings_of("\n".join(f"{n}. {h}" for n, h in enumerate(headings, 1))) == headings


@pytest.mark.parametrize(
    ("heading", "begun"), [("A map", "2. A map:"), ("地图", "2. 地图："), ("ちず", "2. ちず：")]
)
def test_a_point_begins_with_number_and_heading(heading: str, begun: str) -> None:
    assert lead(2, heading) == begun


# Two forks


def outlining(**options: int) -> tuple[Strategy, Fork]:
    """The strategy as it waits for its outline."""
    strategy = decode(None, **options)  # type: ignore[arg-type]
    fork = next(strategy)
    assert isinstance(fork, Fork)
    return strategy, fork


def after(strategy: Strategy, *written: Written) -> Draft | Fork | str | None:
    """What the strategy proposes next, or what it ends with."""
    try:
        return strategy.send(Verdict((), 0, written=written))
    except StopIteration as ended:
        reason: str | None = ended.value
        return reason


def points_of(written: Written, **options: int) -> Fork:
    fork = after(outlining(**options)[0], written)
    assert isinstance(fork, Fork)
    return fork


def test_the_outline_is_hidden_and_points_are_the_answer() -> None:
    strategy, outline = outlining()
    assert (outline.stage, outline.fields, outline.leads) == ("outline", ({},), ())
    point = after(strategy, Written(OUTLINE, is_whole=True))
    assert isinstance(point, Fork)
    assert point.stage == "point"
    assert point.leads == ("1. Water and food:", "\n2. A map:", "\n3. Warm clothes:")
    assert list(point.fields) == [
        {
            "outline": f"{number}. {heading}",
            "number": str(number),
            "heading": heading,
            "lead": f"{number}. {heading}:",
        }
        for number, heading in enumerate(HEADINGS, 1)
    ]
    assert after(strategy, *[Written("Yes.", is_whole=True)] * 3) is None


def test_points_are_numbered_anew_where_some_were_left_out() -> None:
    fork = points_of(Written(" A\n2. A\n3. B\n\n7. C: why", is_whole=True))
    assert fork.leads == ("1. A:", "\n2. B:", "\n3. C:")
    assert fork.fields[2]["outline"] == "3. C"


@pytest.mark.parametrize("text", ["", " Only this.", " A\n2. B", " A\n2. A\n3. A\n4. A\n5. B"])
def test_fewer_than_three_points_are_a_reason_to_fall_back(text: str) -> None:
    strategy, _ = outlining()
    ended = after(strategy, Written(text, is_whole=True))
    assert ended == "the outline has fewer than 3 points"


@pytest.mark.parametrize(
    ("is_whole", "leads"),
    [
        (True, ("1. A:", "\n2. B:", "\n3. C:", "\n4. Unfin:")),
        (False, ("1. A:", "\n2. B:", "\n3. C:")),
    ],
)
def test_a_line_that_was_cut_is_no_point(is_whole: bool, leads: tuple[str, ...]) -> None:
    assert points_of(Written(" A\n2. B\n3. C\n4. Unfin", is_whole)).leads == leads


@pytest.mark.parametrize("points", [3, 5, 10])
def test_no_more_points_are_written_than_allowed(points: int) -> None:
    outline = "".join(f" word{number}\n{number + 1}." for number in range(1, 13))
    fork = points_of(Written(outline, is_whole=True), points=points)
    assert len(fork.leads) == len(fork.fields) == points


def test_options_set_how_much_is_written() -> None:
    _, small = outlining(points=3)
    _, large = outlining(points=10)
    assert 0 < small.max_tokens < large.max_tokens
    fork = points_of(Written(OUTLINE, is_whole=True), sentences=5, point_tokens=33)
    assert (fork.sentences, fork.max_tokens, fork.stop[0]) == (5, 33, "\n")


def test_a_context_without_room_is_a_reason_to_fall_back() -> None:
    strategy, _ = outlining()
    assert after(strategy) == "the context has no room for an outline"
    strategy, _ = outlining()
    after(strategy, Written(OUTLINE, is_whole=True))
    assert after(strategy) == "the context has no room for the points"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("points", 2),
        ("points", 11),
        ("points", "many"),
        ("sentences", -1),
        ("sentences", 21),
        ("point_tokens", 15),
        ("point_tokens", 1025),
        ("outline", 1),
    ],
)
def test_options_out_of_their_limits_are_refused(option: str, value: OptionValue) -> None:
    with pytest.raises(strategies.OptionError) as caught:
        strategies.check("skeleton", {option: value})
    assert caught.value.field == option


def test_skeletons_are_known_to_change_answers() -> None:
    assert not strategies.is_lossless("skeleton")


def test_a_point_is_one_line_without_another_heading_and_not_empty() -> None:
    fork = points_of(Written(OUTLINE, is_whole=True))
    assert fork.stop == ("\n",)  # over an upstream; elsewhere none is written
    assert {"\n", ":"} <= {*fork.without}
    assert fork.min_tokens > 0


def test_outline_and_points_are_kept_from_saying_things_twice() -> None:
    _, outline = outlining()
    point = points_of(Written(OUTLINE, is_whole=True))
    assert min(outline.frequency_penalty, point.frequency_penalty) > 0
