"""The arithmetic and the page of the benchmark; nothing here measures."""

import json

import pytest

from benchmarks.comparisons import (
    COMPARISONS,
    Agreement,
    Comparison,
    Series,
    Spread,
    agreement,
)
from benchmarks.contestants import ENGINE, GENERATE, LLAMA_CPP, STRIDE, TRANSFORMERS
from benchmarks.processes import ContestantFailed
from benchmarks.report import (
    PLAIN,
    Report,
    as_json,
    between_markers,
    markdown,
    markers,
    spread_text,
    table,
)
from benchmarks.rounds import turns
from benchmarks.streaming import read_stream
from benchmarks.timing import Timing, decode_speed, prefill_speed
from benchmarks.workloads import DECODE, PREFILL, STREAMS_8, STREAMS_16, Workload

BEGIN, END = markers(PLAIN)
OURS, THEIRS = Series(DECODE, STRIDE), Series(DECODE, GENERATE)


def timing(
    first: float = 0.5, last: float = 1.5, num_tokens: int = 11, text: str = "", *tokens: int
) -> Timing:
    return Timing(first=first, last=last, num_tokens=num_tokens, text=text, tokens=tokens)


def report() -> Report:
    return Report(
        facts={"CPU": "an abacus"},
        command="python -m benchmarks.plain",
        contestants=[ENGINE, TRANSFORMERS],
        samples={Series(DECODE, ENGINE): [40.0, 44.0, 42.0], Series(PREFILL, ENGINE): [2000.0]},
        agreements=[Agreement(TRANSFORMERS, 2, 3, "token 17")],
        absent={TRANSFORMERS: "no such\nmodule | here"},
        prompt_tokens=1000,
    )


# --- speeds ---


def test_the_first_token_and_the_wait_for_it_are_no_part_of_decoding() -> None:
    assert decode_speed([timing(first=0.5, last=1.5, num_tokens=11)]) == pytest.approx(10)


def test_streams_are_timed_from_the_earliest_token_to_the_latest() -> None:
    answers = [timing(0.0, 1.0, 11), timing(1.0, 2.0, 11)]
    assert decode_speed(answers) == pytest.approx(10)


def test_prefill_ends_with_the_first_token() -> None:
    assert prefill_speed([timing(first=0.5)], 1000) == pytest.approx(2000)


def test_a_median_of_an_even_number_lies_between_the_middle_two() -> None:
    assert Spread.of([4.0, 1.0, 3.0, 2.0]) == Spread(median=2.5, lowest=1.0, highest=4.0)


# --- comparisons ---


def test_ratios_pair_samples_taken_after_each_other() -> None:
    """The machine slowing down for both must not look like a difference between them."""
    samples = {OURS: [40.0, 20.0], THEIRS: [20.0, 10.0]}
    assert Comparison("", OURS, THEIRS).ratio(samples) == Spread(2.0, 2.0, 2.0)


def test_unequal_numbers_of_samples_are_compared_with_the_median() -> None:
    streams = Series(STREAMS_8, STRIDE)
    samples = {streams: [90.0], OURS: [20.0, 30.0, 50.0]}
    assert Comparison("", streams, OURS).ratio(samples) == Spread(3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("ours", "at_least", "verdict"),
    [
        ([13.0], 1.3, "met"),
        ([12.9], 1.3, "**missed**"),
        ([9.0, 9.0, 99.0], 1.3, "**missed**"),
        ([12.9], None, "no target"),
        ([], 1.3, "not measured"),
    ],
)
def test_the_median_decides_and_a_miss_is_shown(
    ours: list[float], at_least: float | None, verdict: str
) -> None:
    samples = {OURS: ours, THEIRS: [10.0] * len(ours)}
    assert Comparison("", OURS, THEIRS, at_least).verdict(samples) == verdict


def test_every_target_of_the_project_is_compared() -> None:
    targets = {(c.ours.workload, c.at_least) for c in COMPARISONS if c.at_least is not None}
    assert targets == {
        *((DECODE, 0.75), (DECODE, 3.0), (DECODE, 1.3), (DECODE, 0.95)),
        *((PREFILL, 3.0), (PREFILL, 1.0)),
        *((STREAMS_16, 4.0), (STREAMS_16, 5.0)),
        (STREAMS_8, 3.0),
    }


def test_no_comparison_is_made_twice() -> None:
    assert len({(c.ours, c.theirs) for c in COMPARISONS}) == len(COMPARISONS)


# --- agreement ---


def test_answers_are_compared_by_tokens_where_both_show_them() -> None:
    ours, theirs = timing(1, 1, 3, "abc", 1, 2, 3), timing(1, 1, 3, "abx", 1, 2, 4)
    assert agreement("x", [theirs, ours], [ours, ours]) == Agreement("x", 1, 2, "token 2")
    assert agreement("x", [timing(1, 1, 3, "ab")], [ours]) == Agreement("x", 0, 1, "character 2")


# --- the page ---


def test_a_table_is_aligned() -> None:
    assert table(["", "a"], [["long", "b"]]).splitlines() == [
        "|      | a   |",
        "|------|-----|",
        "| long | b   |",
    ]


def test_a_spread_shows_its_range_and_nothing_is_a_dash() -> None:
    assert spread_text([1.0, 3.0, 2.0], "{:.1f}", "×") == "2.0× (1.0–3.0)"
    assert spread_text([], "{:.1f}") == "–"


def test_who_could_not_run_is_listed_with_the_reason_on_one_line() -> None:
    page = markdown(report())
    assert "did not run: no such module \\| here" in page
    assert "42.0 (40.0–44.0)" in page
    assert "500 ms (500–500)" in page
    assert "2 of 3 equal; the earliest difference is at token 17" in page
    assert "not measured" in page


def test_a_server_that_answers_otherwise_than_its_engine_is_pointed_out() -> None:
    usual = report()
    assert "must not happen" not in markdown(usual)
    broken = usual._replace(agreements=[Agreement(STRIDE, 2, 3, "character 5")])
    assert "**this must not happen**" in markdown(broken)


@pytest.mark.parametrize(("ours", "is_told"), [(50.0, True), (49.9, False)])
def test_the_moonshot_is_told_only_when_it_is_reached(ours: float, is_told: bool) -> None:
    samples = {OURS: [ours], Series(DECODE, LLAMA_CPP): [50.0]}
    assert ("moonshot" in markdown(report()._replace(samples=samples))) == is_told


def test_prose_around_the_markers_stays() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = between_markers(page, "new")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert between_markers(once, "new") == once


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_not_touched(page: str) -> None:
    with pytest.raises(ValueError, match="the page needs one"):
        between_markers(page, "new")


def test_the_json_holds_every_sample() -> None:
    written = json.loads(json.dumps(as_json(report())))
    assert written["samples"][0]["values"] == [40.0, 44.0, 42.0]
    assert {c["verdict"] for c in written["comparisons"]} == {"not measured"}


# --- turns and streams ---


class Named:
    """A contestant that is never started."""

    def __init__(self, name: str, takes_groups: bool) -> None:
        self.name = name
        self.takes_groups = takes_groups


def test_contestants_take_turns_with_every_group() -> None:
    alone = Workload(DECODE, (("p",), ("q",)), 8, decode_speed)
    together = Workload(STREAMS_8, (("p", "q"),), 8, decode_speed)
    contestants = [Named("A", False), Named("B", True)]
    order = [(t.contestant.name, t.prompts) for t in turns([alone, together], contestants)]  # type: ignore[arg-type]
    assert order == [
        *(("A", ("p",)), ("B", ("p",)), ("A", ("q",)), ("B", ("q",))),
        ("B", ("p", "q")),
    ]


def test_a_stream_is_read_whatever_its_chunks() -> None:
    event = b'data: {"choices": [{"text": "a"}]}\n\n'
    last = b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\ndata: [DONE]\n\n'
    chunks = [(1.0, event[:9]), (2.0, event[9:]), (3.0, event + last)]
    assert read_stream(chunks) == timing(2.0, 3.0, 3, "aa")


def test_an_error_in_a_stream_is_a_failure() -> None:
    with pytest.raises(ContestantFailed, match="out of memory"):
        read_stream([(1.0, b'data: {"error": "out of memory"}\n\n')])
