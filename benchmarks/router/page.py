"""The page about the router: from what it said to Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks import machine
from benchmarks.report import command, table
from benchmarks.router.figures import Figures, figures
from benchmarks.router.questions import KINDS, Labelled, Question
from server.router import Kind, Router, Verdict

LANGUAGES = {"en": "English", "zh": "Chinese", "ja": "Japanese"}
FACTS = ("CPU", "System", "Versions", "Commit", "Date")
GOALS = Figures(accuracy=0.0, precision=0.9, recall=0.85)


class Judged(NamedTuple):
    """A test question and what the router said."""

    question: Question
    verdict: Verdict


class Latency(NamedTuple):
    """Microseconds: of the test questions, and the median of a prompt of 100,000 characters."""

    median: float
    p99: float
    long_prompt: float


class Measured(NamedTuple):
    """Everything that was found out. The public sets are by name."""

    judged: Sequence[Judged]
    public: Mapping[str, Figures]
    latency: Latency


def judged(router: Router, questions: Iterable[Question]) -> list[Judged]:
    """What the router says of each question."""
    return [Judged(question, router.judge(question.text)) for question in questions]


def own_figures(found: Sequence[Judged]) -> Figures:
    """How well `independent` was told from the rest."""
    return figures(
        [verdict.kind == "independent" for _, verdict in found],
        [question.label == "independent" for question, _ in found],
    )


def public_figures(router: Router, questions: Sequence[Labelled]) -> Figures:
    """The same for a public set."""
    return figures(
        [router.judge(question.text).kind == "independent" for question in questions],
        [question.independent for question in questions],
    )


def page(measured: Measured) -> str:
    """The whole page."""
    facts = machine.facts()
    parts = [
        "# The router",
        f"Measured with `{command('benchmarks.router.measure')}`, which also writes this page."
        " The router says whether a question asks for points that can be written independently of"
        " each other. It has never seen these questions; precision and recall are those of"
        " `independent`.",
        table(["", ""], [[name, facts[name]] for name in FACTS]),
        "## Our own test questions",
        _by_language(measured.judged),
        f"The goals are a precision of at least {GOALS.precision} and a recall of at least"
        f" {GOALS.recall}.",
        _confusion(measured.judged),
        *_public(measured.public),
        "## Latency",
        _latency(measured.latency),
    ]
    return "\n\n".join(parts) + "\n"


def _by_language(found: Sequence[Judged]) -> str:
    rows = []
    for language, title in LANGUAGES.items():
        those = [each for each in found if each.question.language == language]
        rows.append([title, str(len(those)), *_cells(own_figures(those))])
    rows.append(["**all**", str(len(found)), *_cells(own_figures(found))])
    return table(["", "questions", "accuracy", "precision", "recall", "F1"], rows)


def _cells(found: Figures) -> list[str]:
    return [f"{share:.3f}" for share in (found.accuracy, found.precision, found.recall, found.f1)]


def _confusion(found: Sequence[Judged]) -> str:
    rows = [[f"is {label}", *_said(found, label)] for label in KINDS]
    return table(["", *(f"said {kind}" for kind in KINDS)], rows)


def _said(found: Sequence[Judged], label: Kind) -> list[str]:
    """How often each kind was said of questions with this label."""
    said = [verdict.kind for question, verdict in found if question.label == label]
    return [str(said.count(kind)) for kind in KINDS]


def _public(found: Mapping[str, Figures]) -> list[str]:
    if not found:
        return []
    return [
        "## Public sets",
        "Labelled by Skeleton-of-Thought's authors (github.com/imagination-research/sot,"
        " `data/{vicuna,wizardlm,lima}/router.csv`), in English, never used for training. Errors in"
        " vicuna and lima were looked at while the words were chosen that the router knows;"
        " wizardlm was measured only when all was done.",
        table(
            ["", "accuracy", "precision", "recall", "F1"],
            [[name, *_cells(each)] for name, each in found.items()],
        ),
    ]


def _latency(found: Latency) -> str:
    return (
        f"A question takes {found.median:.0f} µs (median of the test questions, once warm), 99 of"
        f" 100 at most {found.p99:.0f} µs, a prompt of 100,000 characters"
        f" {found.long_prompt:.0f} µs."
    )
