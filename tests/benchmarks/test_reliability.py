"""How outcomes of the runs under strain are judged; nothing here starts a server."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import overload, soak
from benchmarks.endings import ending
from benchmarks.fuzz.__main__ import bodies_finding, guided_finding, read_report
from benchmarks.keeping import Reply
from benchmarks.kills import Recovery, findings
from benchmarks.observing import Footprint, samples, total
from benchmarks.overload import Asked, Part
from benchmarks.reliability_page import PAGE, Finding, percentile, write, yes
from benchmarks.report import markers

METRICS = """\
# HELP stride_requests_running a
stride_requests_running 3.0
stride_requests_running_more 9.0
stride_tokens_total{model="m",strategy="a"} 2.0
stride_tokens_total{model="m",strategy="b"} 5.0
"""


def asked(
    status: int | None = 200, *, at: float = 5, seconds: float = 1, tokens: int = 10, **of: float
) -> Asked:
    return Asked(at, seconds, status, str(status), tokens, of.get("retry"))


# --- what a page of metrics says ---


def test_metrics_are_added_up_by_name_and_labels() -> None:
    assert total(METRICS, "stride_requests_running") == 3
    assert total(METRICS, "stride_tokens_total") == 7
    assert total(METRICS, "stride_tokens_total", {"strategy": "b"}) == 5
    assert total(METRICS, "stride_nothing") == 0
    assert len(samples(METRICS, "stride_")) == 4


# --- how answers end ---


@pytest.mark.parametrize(
    ("status", "headers", "body", "is_stream", "words"),
    [
        (200, {}, b"{}", False, "answered"),
        (200, {}, b"data: {}\n\ndata: [DONE]\n\n", True, "answered"),
        (200, {}, b"data: {}\n\n", True, "broken off"),
        (503, {"retry-after": "2"}, b'{"error":{"code":"x"}}', True, "503 x, Retry-After"),
        (500, {}, b"oops", False, "500 in another shape"),
    ],
)
def test_an_ending_is_told_in_words(
    status: int, headers: dict[str, str], body: bytes, is_stream: bool, words: str
) -> None:
    assert ending(status, headers, body, is_stream=is_stream) == words


# --- overload ---


def test_goodput_counts_whole_answers_once_it_has_settled() -> None:
    part = Part(clients=1, begun=4, seconds=5)
    part.asked += [asked(at=3), asked(at=4), asked(at=8.9, tokens=15), asked(at=9)]
    part.asked.append(asked(429, tokens=0))
    assert part.goodput == 5
    assert (len(part.answered), len(part.refused)) == (4, 1)


@pytest.mark.parametrize(("goodput", "is_met"), [(89.9, False), (90.0, True)])
def test_nine_tenths_of_the_capacity_are_enough(goodput: float, is_met: bool) -> None:
    assert overload.share_of_capacity(goodput, 100).is_met is is_met


@pytest.mark.parametrize(
    ("request_", "is_met"),
    [
        (asked(), True),
        (asked(429, tokens=0), True),
        (asked(500, tokens=0), False),
        (asked(None, tokens=0), False),
        (asked(200, tokens=0), False),  # a stream that broke off
    ],
)
def test_only_answers_and_refusals_are_expected(request_: Asked, is_met: bool) -> None:
    assert overload.statuses([asked(), request_]).is_met is is_met


def test_refusals_say_when_to_come_again() -> None:
    good = asked(429, at=5, seconds=0.01, tokens=0, retry=2)
    for retry, is_sane in ((2.0, True), (0.0, False), (61.0, False)):
        *_, sane = overload.refusals([good, good._replace(retry_after=retry)], begun=4)
        assert sane.is_met is is_sane


@pytest.mark.parametrize(
    ("seconds", "is_met"), [([0.01] * 9, True), ([0.01] * 9 + [0.06], False), ([], False)]
)
def test_refusals_are_to_be_fast(seconds: list[float], is_met: bool) -> None:
    assert overload.refusals_beside(seconds).is_met is is_met


def test_the_servers_own_account_of_refusals_is_read_from_its_log() -> None:
    lines = [{"request_id": "a", "status": status, "seconds": 0.002} for status in (200, 429)]
    log = "\n".join(["Stride is ready", *map(json.dumps, lines), "stride: {"])
    assert overload.own_account(log).measured.startswith("p50 2 ms")


def test_calm_is_when_the_slowest_are_as_fast_as_before() -> None:
    assert overload.calmed_down([0.1] * 20, [0.109] * 20).is_met
    assert not overload.calmed_down([0.1] * 20, [0.1] * 18 + [0.2] * 2).is_met


# --- kills ---


@pytest.mark.parametrize(
    ("outcome", "is_met"),
    [
        ("stream: error event", True),
        ("whole answer: 503 engine_died, Retry-After", True),
        ("whole answer: 503 engine_died", False),
        ("stream: broken off", False),
        ("stream: connection broke (ReadError)", False),
    ],
)
def test_after_a_kill_only_listed_ends_are_expected(outcome: str, is_met: bool) -> None:
    found = Recovery([0.01], [2.0], Counter({outcome: 1}), True, True, "", 0.0)
    assert all(each.is_met is not False for each in findings(found)) is is_met


# --- soak ---


def footprint(minute: float, server: float, worker: float) -> Footprint:
    return Footprint(60 * minute, round(server * 2**20), round(worker * 2**20), 10, 5)


def test_growth_is_the_slope_of_all_looks() -> None:
    looks = [footprint(minute, 100, 500 + 2 * minute) for minute in range(10)]
    flat, growing = soak.growth_findings(looks)
    assert flat.is_met
    assert not growing.is_met
    assert "+2.00 MiB/min" in growing.measured


@pytest.mark.parametrize(
    ("outcome", "is_so"),
    [
        ("answered", True),
        ("left", True),
        ("about to leave: answered", True),
        ("bad: 400 None", True),
        ("bad: answered", False),
        ("bad: 500 internal_error", False),
        ("400 None", False),
        ("no answer", False),
        ("about to leave: 500 internal_error", False),
    ],
)
def test_only_bad_requests_are_refused(outcome: str, is_so: bool) -> None:
    assert soak.is_expected(outcome) is is_so


def test_tokens_are_read_from_answers_of_both_kinds() -> None:
    usage = {"usage": {"completion_tokens": 7}}
    whole = Reply(200, {}, json.dumps(usage).encode(), 1)
    events = f"data: {{}}\n\ndata: {json.dumps(usage)}\n\ndata: [DONE]\n\n"
    stream = Reply(200, {"content-type": "text/event-stream; x"}, events.encode(), 1)
    assert soak.tokens_in(whole) == soak.tokens_in(stream) == 7
    assert soak.tokens_in(Reply(400, {}, b"", 1)) == 0


# --- fuzz ---


def test_the_tools_report_is_read() -> None:
    said = "Test cases:\n  2,345 generated, 3 found 2 unique failures"
    assert read_report(said)[:2] == (2345, 2)
    assert read_report("nothing")[:2] == (0, 0)


def test_the_guided_fuzzers_end_is_read() -> None:
    found = guided_finding("frames", 0, "#9 DONE\nDone 1234 runs in 61 second(s)")
    assert (found.is_met, found.measured) == (True, "1,234 inputs, no fault")
    assert not guided_finding("frames", 77, "Uncaught Python exception").is_met


def test_a_thousand_bodies_without_a_fault_are_enough() -> None:
    assert bodies_finding(Counter({200: 400, 400: 600}), 0).is_met
    assert not bodies_finding(Counter({200: 400, 400: 599}), 0).is_met
    assert not bodies_finding(Counter({400: 1000}), 1).is_met


# --- the page ---


def test_a_finding_is_met_missed_or_only_told() -> None:
    assert yes("a", True).row() == ["a", "yes", "yes", "met"]
    assert yes("a", False).row()[-1] == "**missed**"
    assert Finding("a", "1").row() == ["a", "1", "–", ""]


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1, 2], 0.99) == 2


def test_every_section_has_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("overload", "kills", "soak", "fuzz"):
        write(name, f"found {name}", page)
    text = page.read_text(encoding="utf-8")
    assert all(
        f"{markers(name)[0]}\n\nfound {name}\n" in text
        for name in ("overload", "kills", "soak", "fuzz")
    )
