"""LLMA's match length n and copy length k: the published algorithm and ours, replayed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.answering import Answerer
from benchmarks.conversations import Conversation, read
from benchmarks.forced import Forcing, forcings
from benchmarks.line_plot import Line, Panel, line_plots
from benchmarks.loops import ends_in_a_loop
from benchmarks.reference import WORKLOAD, cases_of, with_history
from benchmarks.replay import Drafter
from benchmarks.report import table
from benchmarks.sweeps.projection import Projection
from benchmarks.sweeps.unbounded import Forwards, added, replayed

GROUPS = {
    "retrieval_qa": "quoting documents",
    "quoting": "quoting documents",
    "code_edit_file": "editing and rewriting",
    "code_edit_wrong": "editing and rewriting",
    "rewrite": "editing and rewriting",
    "near_repeated": "asked again in other words",
}
_BEFORE = ("repeated_first",)  # asked so that something can be asked again
MATCHES = (1, 2, 3, 4, 6, 8)
COPIES = (2, 4, 8, 16, 32, 64, 128)
LLMA, OURS = "LLMA", "reference copy"


PAPER = (
    "Yang et al. ([arXiv 2304.04487](https://arxiv.org/abs/2304.04487)) copy k tokens from behind"
    " the place in a reference where the last n tokens of the answer stand. Their code comes with"
    " n = 1, trying the longest match of up to five tokens first, and k = 20; they report two to"
    " three times the speed where answers overlap with references. Their curves are not at hand as"
    " numbers, so ours are held against that choice. Replayed with the published algorithm (dots"
    " on full lines) and with ours, whose drafts are trees (dashed; k bounds their nodes)."
)


class Texts(NamedTuple):
    """Answers of one kind; ``loops`` of this kind are left out."""

    name: str
    forcings: Sequence[Forcing]
    loops: int = 0


class Setting(NamedTuple):
    """An algorithm and its two parameters."""

    algorithm: str
    match: int
    copy: int

    def drafter(self, forcing: Forcing) -> Drafter:
        """What drafts so."""
        if self.algorithm == LLMA:
            return forcing.llma(n=self.match, k=self.copy)
        return forcing.ours(match=self.match, copy=self.copy)


SETTINGS = tuple(Setting(a, n, k) for a in (LLMA, OURS) for n in MATCHES for k in COPIES)

ALMOST = 0.95  # of what the largest k gives
PAPERS_COPY = 32  # the k swept that is next above the paper's 20

By = Mapping[Setting, Forwards]
Found = Sequence[tuple[Texts, By]]


def conversations() -> list[Conversation]:
    """Those of the project's own workload that repeat known text."""
    return [each for each in read(WORKLOAD) if each.category in (*GROUPS, *_BEFORE)]


def own_texts(answerer: Answerer, asked: Iterable[Conversation]) -> Iterator[Texts]:
    """Our own model's plain answers, by what they repeat."""
    cases = list(with_history(case for each in asked for case in cases_of(answerer, each)))
    for name in dict.fromkeys(GROUPS.values()):
        chosen = [case for case in cases if GROUPS.get(case.category) == name]
        kept = [case for case in chosen if not ends_in_a_loop(case.answer)]
        found = [
            Forcing(
                documents=[case.prompt, *(each.tokens for each in case.references)],
                references=case.references,
                prompt=case.prompt,
                target=case.answer,
            )
            for case in kept
        ]
        yield Texts(name, found, len(chosen) - len(kept))


def forced_texts(answerer: Answerer, path: Path) -> Texts:
    """LLMA's own data, in which a larger model has answered."""
    return Texts(path.name, forcings(answerer.tokenizer, answerer.engine.eos, path))


def swept(texts: Texts) -> By:
    """What all answers of a kind take, with every setting."""
    return {
        setting: added(replayed(setting.drafter(each), each.target) for each in texts.forcings)
        for setting in SETTINGS
    }


# --- the page --------------------------------------------------------------------------------


def section(found: Found, projection: Projection) -> Iterable[str]:
    """The part of the page."""
    yield "## LLMA: match length n and copy length k"
    yield PAPER
    yield "![Tokens per forward by copy length and match length](sweeps-copying.svg)"
    yield "Where each is best, by tokens per forward and by the projection:"
    yield table(
        ["", "answers", "loops, left out", *_BEST],
        [_best_row(texts, by, projection) for texts, by in found],
    )
    for texts, by in found:
        yield f"### {texts.name[0].upper()}{texts.name[1:]}"
        yield table(["tokens per forward", *(f"k = {k}" for k in COPIES)], [*_rows(by)])
    yield from _verdict(found, projection)


_BEST = ["LLMA, most tokens", "LLMA, projected fastest", "ours, most tokens"]
_BEST += ["ours, projected fastest"]


def _best_row(texts: Texts, by: By, projection: Projection) -> list[str]:
    cells = [texts.name, str(len(texts.forcings)), str(texts.loops)]
    for algorithm in (LLMA, OURS):
        most, fastest = densest(by, algorithm), fastest_of(by, algorithm, projection)
        cells.append(f"n = {most.match}, k = {most.copy}: {by[most].tokens_each:.2f}")
        speed = projection.speed_up(by[fastest])
        cells.append(f"n = {fastest.match}, k = {fastest.copy}: {speed:.2f}×")
    return cells


def densest(by: By, algorithm: str) -> Setting:
    """The setting with most tokens per forward; of equal ones the smallest."""
    return max(_of(by, algorithm), key=lambda each: round(by[each].tokens_each, 2))


def fastest_of(by: By, algorithm: str, projection: Projection) -> Setting:
    """The setting that the projection has as the fastest; of equal ones the smallest."""
    return max(_of(by, algorithm), key=lambda each: round(projection.speed_up(by[each]), 2))


def _of(by: By, algorithm: str) -> list[Setting]:
    return [setting for setting in by if setting.algorithm == algorithm]


def _rows(by: By) -> Iterator[list[str]]:
    for algorithm in (LLMA, OURS):
        for n in MATCHES:
            found = [by[Setting(algorithm, n, k)] for k in COPIES]
            yield [f"{algorithm}, n = {n}", *(f"{each.tokens_each:.2f}" for each in found)]


def plot(found: Found) -> str:
    """The picture."""
    return line_plots([_panel(texts, by) for texts, by in found])


def _panel(texts: Texts, by: By) -> Panel:
    lines = {
        f"{algorithm}, n = {n}": Line(
            [(k, by[Setting(algorithm, n, k)].tokens_each) for k in COPIES],
            dashed=algorithm == OURS,
        )
        for algorithm, n in _DRAWN
    }
    return Panel(texts.name, "copy length k", "tokens per forward", lines)


_DRAWN = ((LLMA, 1), (LLMA, 2), (LLMA, 4), (LLMA, 8), (OURS, 1), (OURS, 4))


def _verdict(found: Found, projection: Projection) -> Iterable[str]:
    yield "### Against the paper"
    enough = {texts.name: enough_copied(by) for texts, by in found}
    papers = max(enough.values()) <= PAPERS_COPY
    yield "\n".join(
        [
            f"- **k {'agrees' if papers else 'agrees in part'}**: with n = 1, {ALMOST:.0%} of what"
            " LLMA has with k = 128 is there at k ="
            f" {', '.join(f'{k} ({name})' for name, k in enough.items())}. Spans that answers share"
            " with references end somewhere, so the curves flatten; the paper's code has 20.",
            f"- **n agrees in counts**: {_in_words(found, _shortest_is_best)} n = 1 has most tokens"
            " per forward at k = 16. A match that need not be long is found more often, and a wrong"
            " draft costs no forward.",
            "- **In rows it does not**: n = 1 drafts at nearly every forward. Where rows cost, as"
            " on the processor behind the projection, LLMA is fastest with"
            f" {_fastest(found, LLMA, projection)}; the paper's accelerators had rows to spare.",
            f"- **Trees instead of blocks**: at n = 1 and k = 16 ours has {_ours_to_llma(found)}"
            " times LLMA's tokens per forward. It also copies from the answer itself and from"
            " several places at once, and drafts little where copying has gone badly, so it hardly"
            " gains from a longer match.",
        ]
    )


def enough_copied(by: By) -> int:
    """The smallest k at which LLMA with n = 1 has almost all of what the largest gives."""
    tokens = {k: by[Setting(LLMA, 1, k)].tokens_each for k in COPIES}
    return next(k for k in COPIES if tokens[k] >= ALMOST * tokens[COPIES[-1]])


def _shortest_is_best(by: By) -> bool:
    tokens = [round(by[Setting(LLMA, n, 16)].tokens_each, 2) for n in MATCHES]
    return tokens[0] == max(tokens)


def _in_words(found: Found, holds: Callable[[By], bool]) -> str:
    names = [texts.name for texts, by in found if holds(by)]
    return "everywhere" if len(names) == len(found) else f"in {len(names)} of {len(found)} kinds"


def _fastest(found: Found, algorithm: str, projection: Projection) -> str:
    best = [(texts.name, fastest_of(by, algorithm, projection)) for texts, by in found]
    return ", ".join(f"n = {each.match}, k = {each.copy} ({name})" for name, each in best)


def _ours_to_llma(found: Found) -> str:
    ratios = [
        by[Setting(OURS, 1, 16)].tokens_each / by[Setting(LLMA, 1, 16)].tokens_each
        for _, by in found
    ]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"
