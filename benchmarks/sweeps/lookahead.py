"""Lookahead's W, N and G: tokens per forward, and what a forward has to compute for them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from benchmarks.answering import Answerer
from benchmarks.line_plot import Line, Panel, line_plots
from benchmarks.report import table
from benchmarks.sweeps.fits import Formula, LogLinear
from benchmarks.sweeps.projection import Projection
from benchmarks.sweeps.questions import Answered
from benchmarks.sweeps.unbounded import Forwards, added, decoded


class Setting(NamedTuple):
    """W columns, n-grams of N tokens, G of them verified."""

    window: int
    ngram: int
    guesses: int

    @property
    def name(self) -> str:
        """As the papers write it."""
        return f"{self.window}/{self.ngram}/{self.guesses}"


_WIDTHS = {5: (2, 4, 8, 16, 32), 3: (2, 4, 8, 16, 32), 7: (2, 4, 8, 16)}
_MIDDLE = Setting(16, 5, 16)

PAPER = (
    "Fu et al. ([arXiv 2402.02057](https://arxiv.org/abs/2402.02057)) give a forward W columns of"
    " Jacobi iteration, N − 1 rows deep, and verify up to G n-grams in it, with W = G as a rule."
    " Their scaling law (section 4): forwards fall linearly with the logarithm of what a forward"
    " computes, if N is large enough; their choice on an A100 is W/N/G = 15/5/15 for 7B, 10/5/10"
    " for 13B and 7/5/7 for 34B."
)

BY_WIDTH = {n: [Setting(w, n, w) for w in widths] for n, widths in _WIDTHS.items()}
BY_NGRAM = [_MIDDLE._replace(ngram=n) for n in (3, 4, 5, 7, 10)]
BY_GUESSES = [_MIDDLE._replace(guesses=g) for g in (1, 4, 16, 32)]
SETTINGS = tuple(
    dict.fromkeys([*(each for line in BY_WIDTH.values() for each in line), *BY_NGRAM, *BY_GUESSES])
)

GOOD_FIT = 0.95  # R² from which a curve is called a line

Found = Mapping[Setting, Forwards]


def measured(answerer: Answerer, questions: Sequence[Answered], setting: Setting) -> Forwards:
    """What all answers take with the window alone, as published."""
    options = {
        **setting._asdict(),
        "copying": False,
        "recycling": False,
        "phrases": False,
    }
    return added(
        decoded(answerer, each.prompt, each.answer, "lookahead", options) for each in questions
    )


# --- the page --------------------------------------------------------------------------------


def section(found: Found, projection: Projection) -> Iterable[str]:
    """The part of the page."""
    yield "## Lookahead: W, N and G"
    yield PAPER
    yield "![Tokens per forward by W, and forwards by their size](sweeps-lookahead.svg)"
    yield _by_width(found, projection)
    yield _fits(found)
    yield "N at W = G = 16, and G at W = 16, N = 5:"
    others = dict.fromkeys([*BY_NGRAM, *BY_GUESSES])
    yield table(
        ["W/N/G", "tokens per forward", "rows per forward", "projected speed"],
        [[each.name, *_cells(found[each], projection)] for each in others],
    )
    yield from _verdict(found, projection)


def _by_width(found: Found, projection: Projection) -> str:
    header = ["W = G"]
    for n in BY_WIDTH:
        header += [f"N = {n}: tokens per forward", "rows", "projected"]
    rows = []
    for width in _WIDTHS[5]:
        row = [str(width)]
        for n in BY_WIDTH:
            forwards = found.get(Setting(width, n, width))
            row += _cells(forwards, projection) if forwards else ["–"] * 3
        rows.append(row)
    return table(header, rows)


def _cells(forwards: Forwards, projection: Projection) -> list[str]:
    return [
        f"**{forwards.tokens_each:.2f}**",
        f"{forwards.rows_each:.0f}",
        f"{projection.speed_up(forwards):.2f}×",
    ]


def fit(found: Found, ngram: int) -> LogLinear:
    """How tokens per forward rise with W."""
    return LogLinear.of([(each.window, found[each].tokens_each) for each in BY_WIDTH[ngram]])


def fit_of_steps(found: Found, ngram: int) -> LogLinear:
    """How forwards, as a share of plain decoding's, fall with the rows of a forward."""
    lines = [found[each] for each in BY_WIDTH[ngram]]
    return LogLinear.of([(each.rows_each, 1 / each.tokens_each) for each in lines])


def formula(found: Found) -> tuple[Formula, float]:
    """The paper's formula with the constants that fit all W = G best, and its error."""
    points = [
        (each.guesses, each.ngram, found[each].tokens_each)
        for line in BY_WIDTH.values()
        for each in line
    ]
    best = Formula.of(points)
    return best, best.error(points)


def _fits(found: Found) -> str:
    rows = []
    for n in BY_WIDTH:
        rising, falling = fit(found, n), fit_of_steps(found, n)
        rows.append(
            [
                str(n),
                f"{rising.per_doubling:+.3f}",
                f"{rising.r_squared:.3f}",
                f"{100 * falling.per_doubling:+.1f} %",
                f"{falling.r_squared:.3f}",
            ]
        )
    header = ["N", "tokens per forward, each doubling of W", "R²"]
    header += ["forwards, each doubling of the rows", "R²"]
    return table(header, rows)


def plot(found: Found) -> str:
    """The picture."""
    by_width = {
        f"N = {n}": Line([(each.window, found[each].tokens_each) for each in line])
        for n, line in BY_WIDTH.items()
    }
    by_rows = {
        f"N = {n}": Line([(found[each].rows_each, 100 / found[each].tokens_each) for each in line])
        for n, line in BY_WIDTH.items()
    }
    best, _ = formula(found)
    by_width["formula, N = 5"] = Line(
        [(each.window, best.tokens_each(each.guesses, 5)) for each in BY_WIDTH[5]], dashed=True
    )
    return line_plots(
        [
            Panel("Tokens per forward", "W = G", "tokens per forward", by_width),
            Panel("Steps against their size", "rows of a forward", "% of plain steps", by_rows),
        ]
    )


def _verdict(found: Found, projection: Projection) -> Iterable[str]:
    yield "### Against the paper"
    yield "\n".join([_law(found), *_others(found), _formula(found), _choice(found, projection)])


def _law(found: Found) -> str:
    rising, falling = fit(found, 5), fit_of_steps(found, 5)
    gains = [
        found[larger].tokens_each - found[smaller].tokens_each
        for smaller, larger in pairwise(BY_WIDTH[5])
    ]
    line = min(rising.r_squared, falling.r_squared) >= GOOD_FIT
    return (
        f"- **The log-linear law {'holds' if line else 'holds only roughly'}**, at N = 5: each"
        f" doubling of W adds {rising.per_doubling:.2f} tokens per forward"
        f" (R² = {rising.r_squared:.3f}), each doubling of the rows takes"
        f" {-100 * falling.per_doubling:.1f} % of plain decoding's forwards away"
        f" (R² = {falling.r_squared:.3f}). From doubling to doubling W adds"
        f" {', '.join(f'{gain:.2f}' for gain in gains)}."
    )


def _others(found: Found) -> Iterable[str]:
    short, middle, long = (found[_MIDDLE._replace(ngram=n)].tokens_each for n in (3, 5, 10))
    yield (
        f"- **N**: at W = G = 16 the n-gram of 5 brings {middle - short:+.2f} tokens per forward"
        f" over that of 3, the one of 10 {long - middle:+.2f} over that of 5. The paper asks for"
        " an N that is large enough for guesses to be as long as a wide window finds them;"
        f" {'so it is here' if middle > short else 'here 3 is enough'}. Rows grow with N whatever"
        " it brings."
    )
    one, most = (found[_MIDDLE._replace(guesses=g)].tokens_each for g in (1, 32))
    whole = found[_MIDDLE].tokens_each
    yield (
        f"- **G**: with one guess {one:.2f} tokens per forward, with as many as columns"
        f" {whole:.2f}, with 32 {most:.2f}. An answer of 256 tokens rarely finds more than a few"
        " n-grams for one token, so G matters less than its limit says."
    )


def _formula(found: Found) -> str:
    best, error = formula(found)
    return (
        "- **The paper's formula**, one good speculation every f forwards, in which b = W = G"
        f" n-grams are right with the chance α a token, fits all {_num_by_width()} points of the"
        f" first table with α = {best.alpha:.2f} and f = {best.every:.2f} to within {error:.2f}"
        " tokens per forward (root mean square)."
    )


def _num_by_width() -> int:
    return sum(map(len, BY_WIDTH.values()))


def _choice(found: Found, projection: Projection) -> str:
    fastest = max(found, key=lambda each: projection.speed_up(found[each]))
    its, papers = (projection.speed_up(found[each]) for each in (fastest, _MIDDLE))
    return (
        "- **Its price is another.** On an A100 the rows of 15/5/15 are all but free; on the"
        f" processor behind the projection 16/5/16 would run at {papers:.2f} times plain speed, and"
        f" {fastest.name} is the best there is, at {its:.2f}. So the law holds in counts and the"
        " paper's settings do not carry over, which is why the window is off here unless asked for."
    )
