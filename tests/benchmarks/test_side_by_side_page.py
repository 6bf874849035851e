"""The page about Stride and its peers: goals are judged, losses are shown, loops stand apart."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.side_by_side import ways
from benchmarks.side_by_side.findings import Findings
from benchmarks.side_by_side.goals import goals
from benchmarks.side_by_side.journal import Answered, Record
from benchmarks.side_by_side.page import page
from benchmarks.side_by_side.results import as_json, write
from benchmarks.side_by_side.sessions import CHAT, LIST, RETRIEVAL, Size
from benchmarks.side_by_side.ways import Way

CATEGORIES = (CHAT, RETRIEVAL, LIST)
EVERYONE = ways.all_ways({}, is_short=False)


def answer(category: str, speed: float, *, is_loop: bool = False, text: str = "Yes.") -> Answered:
    return Answered(
        session=f"{category} 1",
        number=0,
        category=category,
        tokens=100,
        first=0.1,
        seconds=100 / speed,
        decode_speed=speed,
        gaps=(0.01, 0.02),
        forwards=50,
        strategy="lookahead",
        is_loop=is_loop,
        text=text,
    )


def record(way: Way, speed: float, number: int = 0) -> list[Record]:
    answers = tuple(answer(category, speed) for category in CATEGORIES)
    return [
        Record(way=way.name, streams=1, round=number, place=0, answers=answers),
        Record(way=way.name, streams=16, round=number, place=0, answers=answers, speed=4 * speed),
    ]


def findings(records: Sequence[Record], everyone: Sequence[Way] = EVERYONE) -> Findings:
    return Findings(
        ways=everyone,
        categories=CATEGORIES,
        records=records,
        failed={},
        facts={"CPU": "one"},
        command="python -m benchmarks.side_by_side",
        size=Size(streams=(16,)),
        is_complete=True,
    )


SPEEDS = {
    ways.AUTO: 100.0,
    ways.POINTS: 150.0,
    ways.PLAIN: 60.0,
    ways.LLAMA: 50.0,
    ways.LLAMA_NGRAMS: 80.0,
    ways.SERVE: 10.0,
    ways.LOOKUP: 40.0,
    ways.BATCHING: 20.0,
}
FOUND = findings([each for way, speed in SPEEDS.items() for each in record(way, speed)])


def verdicts(found: Findings) -> dict[tuple[str, str], str]:
    return {(goal.title, goal.against): goal.verdict for goal in goals(found)}


def test_a_goal_is_judged_against_the_best_mode_of_a_peer() -> None:
    found = {(each.title, each.at_least): each for each in goals(FOUND)}
    chat = found["one stream, open chat, decoding", 1.0]
    assert (chat.against, chat.verdict) == (ways.LLAMA_NGRAMS.name, "met")
    assert chat.ratio and chat.ratio.median == pytest.approx(100 / 80)
    served = found["one stream, open chat, decoding", 5.0]
    assert (served.against, served.verdict) == (ways.LOOKUP.name, "**missed**")


def test_list_questions_may_be_answered_in_points() -> None:
    (plain,) = (each for each in goals(FOUND) if each.against == ways.PLAIN.name)
    assert plain.ratio and plain.ratio.median == pytest.approx(150 / 60)


def test_a_load_is_compared_as_a_whole() -> None:
    assert verdicts(FOUND)["16 streams, mixed, all together", ways.BATCHING.name] == "met"
    assert verdicts(FOUND)["16 streams, mixed, all together", ways.LLAMA_NGRAMS.name] == (
        "**missed**"
    )


def test_the_default_is_judged_by_the_category_where_it_is_furthest_behind() -> None:
    faster = Record(
        way="Stride, lookahead", streams=1, round=0, place=0, answers=(answer(CHAT, 110.0),)
    )
    found = findings([*FOUND.records, faster])
    title = "one stream, `auto` ÷ the best fixed strategy, worst category"
    assert verdicts(found)[title, f"lookahead, {CHAT}"] == "**missed**"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert set(verdicts(findings([])).values()) == {"not measured"}
    assert "not measured" in page(findings([]))


def test_a_loss_is_bold_and_named() -> None:
    slow = findings([*record(ways.AUTO, 40.0), *record(ways.LLAMA, 50.0)])
    text = page(slow)
    assert "**0.80× (0.80–0.80)**" in text
    assert f"Lost: {CHAT} against llama.cpp (0.80×)" in text
    assert "Nothing was lost" in page(findings(record(ways.AUTO, 40.0)))


def test_loops_count_nowhere_but_in_their_own_table() -> None:
    looping = Record(
        way=ways.AUTO.name, streams=1, round=1, place=0,
        answers=(answer(CHAT, 900.0, is_loop=True),),
    )  # fmt: skip
    text = page(findings([*FOUND.records, looping]))
    before, _, after = text.partition("## Loops")
    assert "900.0" in after and "900.0" not in before


def test_answers_that_should_be_plain_decodings_are_compared_with_them() -> None:
    assert "differ from plain decoding's: 0 of 3." in page(FOUND)
    other = Record(
        way=ways.AUTO.name, streams=1, round=0, place=0, answers=(answer(CHAT, 9.0, text="No."),)
    )
    assert "1 of 3. **This must not happen.**" in page(findings([*FOUND.records, other]))


def test_who_failed_is_named_with_the_reason() -> None:
    text = page(FOUND._replace(failed={ways.LLAMA.server: "no | wheel"}))
    assert "**failed**: no \\| wheel" in text


def test_a_run_that_was_stopped_says_so() -> None:
    assert "stopped before its end" in page(FOUND._replace(is_complete=False))


def test_everything_is_written_and_the_pictures_are_well_formed(tmp_path: Path) -> None:
    written = list(write(FOUND, tmp_path))
    assert {path.name for path in written} == {
        "side-by-side.md",
        "side-by-side.svg",
        "side-by-side-streams.svg",
        "side-by-side.json",
    }
    assert json.loads((tmp_path / "side-by-side.json").read_text()) == as_json(FOUND)
    for path in tmp_path.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        assert f"]({path.name})" in page(FOUND)


def test_the_figures_hold_every_answer_but_not_its_text() -> None:
    figures = as_json(FOUND)
    assert len(figures["goals"]) == 10
    assert sum(len(cell["answers"]) for cell in figures["cells"]) == len(SPEEDS) * 2 * 3
    assert "Yes." not in str(figures)
