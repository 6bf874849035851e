"""The sweeps count rows and forwards; their projection is a price list, not a clock."""

from pathlib import Path

import pytest

from benchmarks.forced import Forcing
from benchmarks.replay import Llma
from benchmarks.sweeps import copying, jacobi, lookahead, skeleton
from benchmarks.sweeps.fits import Formula, LogLinear
from benchmarks.sweeps.page import Findings, page, pictures
from benchmarks.sweeps.projection import Projection, measured_curve
from benchmarks.sweeps.questions import Answered, Open, evenly
from benchmarks.sweeps.skeleton import Asked, InPoints, by_points, summed
from benchmarks.sweeps.unbounded import Forwards, added, replayed
from decoding.request import Request, Stopping

CURVE = {1: 6.0, 2: 7.0, 64: 20.0}


# --- counting ---


def test_forwards_add_up() -> None:
    both = added([Forwards(10, (1, 5)), Forwards(2, (3,))])
    assert both == Forwards(12, (1, 5, 3))
    assert (both.num_forwards, both.tokens_each, both.rows_each) == (3, 4.0, 3.0)


def test_a_replay_says_how_many_rows_each_forward_had() -> None:
    found = replayed(Llma([[5, 1, 2, 3, 4]], n=1, k=4), [5, 1, 2, 3, 4])
    assert found == Forwards(5, (1, 4))


# --- the projection ---


def test_the_curve_is_the_one_that_was_measured() -> None:
    curve = measured_curve()
    assert {1, 2, 4, 8, 16, 32, 64} <= curve.keys()
    assert sorted(curve.values()) == list(curve.values())


def test_a_page_without_a_curve_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "steps.md").write_text("# A step, taken apart\n")
    with pytest.raises(ValueError, match="does not say what more tokens cost"):
        measured_curve(tmp_path / "steps.md")


def test_plain_decoding_is_as_fast_as_itself() -> None:
    assert Projection(CURVE).speed_up(Forwards(7, (1,) * 7)) == pytest.approx(1.0)


def test_wider_forwards_cost_what_the_curve_says() -> None:
    assert Projection(CURVE).speed_up(Forwards(3, (1, 2))) == pytest.approx(18 / 13)


def test_beyond_its_end_the_curve_goes_on() -> None:
    slope = (20 - 7) / 62
    expected = 6 / (20 + 64 * slope)
    assert Projection(CURVE).speed_up(Forwards(1, (128,))) == pytest.approx(expected)


# --- fits ---


def test_a_line_over_doublings_is_found() -> None:
    fit = LogLinear.of([(1, 1.0), (2, 1.25), (4, 1.5), (8, 1.75)])
    assert fit == pytest.approx((1.0, 0.25, 1.0))


def test_a_curve_that_saturates_fits_worse() -> None:
    assert LogLinear.of([(1, 1.0), (2, 1.9), (4, 2.0), (8, 2.0), (16, 2.0)]).r_squared < 0.7


def test_the_formula_finds_its_constants_again() -> None:
    truth = Formula(0.4, 3.0)
    found = [(g, n, truth.tokens_each(g, n)) for n in (3, 5) for g in (1, 4, 16)]
    assert Formula.of(found) == pytest.approx(truth)


def test_one_guess_that_is_always_right_gives_all_its_tokens() -> None:
    assert Formula(1.0, 1.0).tokens_each(guesses=1, ngram=5) == 5.0


# --- choosing ---


def test_questions_are_chosen_evenly_by_category(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [f'{{"category": "{c}", "turns": ["{c}{i}"]}}' for c in "ab" for i in range(4)]
    file.write_text("\n".join(lines))
    assert [each.turns[0] for each in evenly(file, 2)] == ["a0", "a2", "b0", "b2"]


def test_of_equal_settings_the_smallest_is_best() -> None:
    settings = [copying.Setting(copying.LLMA, 1, k) for k in (8, 16, 32)]
    by = {settings[0]: Forwards(4, (1, 8)), settings[1]: Forwards(6, (1, 16))}
    by[settings[2]] = Forwards(6, (1, 32))
    assert copying.densest(by, copying.LLMA) == settings[1]
    assert copying.fastest_of(by, copying.LLMA, Projection(CURVE)) == settings[1]


# --- skeleton ---


def in_points(faults: tuple[str, ...], *, forwards: int = 60, plain: int | None = 240) -> InPoints:
    return InPoints(180, forwards, 20, faults, plain)


def test_a_plain_answer_that_loops_is_no_comparison() -> None:
    sums = summed([in_points(("",) * 3), in_points(("", "no", "no"), plain=None)])
    assert sums.steps_saved == 4.0
    assert (sums.tokens_each, sums.longest, sums.good) == (3.0, 40.0, pytest.approx(4 / 6))


def test_an_answer_that_a_higher_limit_repeats_counts_once() -> None:
    short, long = in_points(("",) * 3), in_points(("",) * 5)
    assert by_points({3: [short], 5: [long], 8: [long]}) == {3: [short], 5: [long]}


# --- the page ---


def findings() -> Findings:
    request = Request(id="a", prompt=(1,), stopping=Stopping(max_tokens=1))
    texts = copying.Texts("quoting documents", [Forcing([[1]], [], [1], [1])], loops=2)
    return Findings(
        questions=Open([Answered((1,), (2, 3))], loops=4),
        by_window={
            each: Forwards(100 + each.window, (each.window * each.ngram,) * 80)
            for each in lookahead.SETTINGS
        },
        by_block={each: Forwards(100, (each.length,) * 95) for each in jacobi.SETTINGS},
        copied=[(texts, {each: Forwards(100, (each.copy,) * 50) for each in copying.SETTINGS})],
        lists=[Asked("Why?", request, 240, is_loop=False)],
        by_points={limit: [in_points(("",) * limit)] for limit in skeleton.POINTS},
    )


def test_every_picture_is_on_the_page() -> None:
    text = page(findings(), Projection(CURVE))
    drawn = pictures(findings(), Projection(CURVE))
    assert len(drawn) == 4
    assert all(f"]({name})" in text for name in drawn)


def test_loops_are_told() -> None:
    assert "4 more end in a loop" in page(findings(), Projection(CURVE))
