"""``python -m benchmarks.router.train``: the router's weights, from our own training questions.

Writes ``server/router_weights.json``: the same questions give the same file.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from benchmarks.router.figures import Figures, figures
from benchmarks.router.questions import KINDS, own
from server.question_features import features
from server.router import WEIGHTS, Scores, Weights

LEAST_QUESTIONS = 3  # with a feature, for it to be learned: what is rarer is a topic
STRENGTH = 0.2  # of the data against the prior that weights are small (L2)
FOLDS = 5
WANTED_PRECISION = 0.92  # of `independent`, cross-validated
DECIMALS = 3
TOLERANCE = 1e-6  # of the optimiser: less would show in the last decimal

Array = NDArray[np.float64]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Trained(NamedTuple):
    """The weights, and what the router they make would get right of questions it did not see."""

    weights: Weights
    cross_validated: Figures


class Examples(NamedTuple):
    """Questions as the regression sees them: their features and the numbers of their kinds."""

    found: Sequence[set[str]]
    kinds: NDArray[np.int64]

    def only(self, chosen: NDArray[np.int64]) -> "Examples":
        """Those with these numbers."""
        return Examples([self.found[number] for number in chosen], self.kinds[chosen])


@app.command(help="Train the router and write its weights.")
def main() -> None:
    """Train, write, and print what cross-validation says."""
    trained = train()
    WEIGHTS.write_bytes(encoded(trained.weights))
    found = trained.cross_validated
    print(f"{len(trained.weights.features):,} features, threshold {trained.weights.threshold}")
    print(
        f"cross-validated: accuracy {found.accuracy:.3f}, precision {found.precision:.3f},"
        f" recall {found.recall:.3f}, F1 {found.f1:.3f}"
    )


def train() -> Trained:
    """Learn from our own training questions."""
    questions = own("train")
    kinds = np.array([KINDS.index(question.label) for question in questions])
    examples = Examples([features(question.text) for question in questions], kinds)
    probabilities = unseen_probabilities(examples)
    is_independent = [bool(kind == 0) for kind in kinds]
    threshold = threshold_for(probabilities, is_independent)
    regression = fitted(examples)
    return Trained(
        weights_of(regression, threshold),
        figures([p >= threshold for p in probabilities], is_independent),
    )


def encoded(weights: Weights) -> bytes:
    """The weights as they are written: JSON, a feature a line, so that changes can be read."""
    return msgspec.json.encode(weights).replace(b'{"', b'{\n"').replace(b'],"', b'],\n"') + b"\n"


class Fitted(NamedTuple):
    """A regression and the names of its columns."""

    names: Sequence[str]
    regression: Any


def fitted(examples: Examples) -> Fitted:
    """The regression over all features that are not rare."""
    counts = Counter(name for found in examples.found for name in found)
    names = sorted(name for name, count in counts.items() if count >= LEAST_QUESTIONS)
    regression = LogisticRegression(C=STRENGTH, tol=TOLERANCE, max_iter=2000)
    return Fitted(names, regression.fit(matrix(examples.found, names), examples.kinds))


def matrix(found: Sequence[set[str]], names: Sequence[str]) -> csr_matrix:
    """A row a question, a column a name: 1 where the question has the feature."""
    columns = {name: column for column, name in enumerate(names)}
    cells = [
        (row, columns[name]) for row, has in enumerate(found) for name in has if name in columns
    ]
    rows, places = zip(*cells, strict=True)
    shape = (len(found), len(names))
    return csr_matrix((np.ones(len(cells)), (rows, places)), shape=shape)


def unseen_probabilities(examples: Examples) -> list[float]:
    """The probability of `independent` for each question, learned from the other folds alone."""
    probabilities = np.zeros(len(examples.kinds))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for learned, unseen in folds.split(examples.kinds, examples.kinds):
        names, regression = fitted(examples.only(learned))
        rows = matrix(examples.only(unseen).found, names)
        probabilities[unseen] = regression.predict_proba(rows)[:, 0]
    return probabilities.tolist()


def threshold_for(probabilities: Sequence[float], is_independent: Sequence[bool]) -> float:
    """The lowest probability, in steps of 0.02 from a half on, that has the wanted precision."""
    for step in range(25):
        threshold = round(0.5 + 0.02 * step, 2)
        said = [probability >= threshold for probability in probabilities]
        if figures(said, is_independent).precision >= WANTED_PRECISION:
            break
    return threshold


def weights_of(trained: Fitted, threshold: float) -> Weights:
    """The weights of `independent` and `dependent` against those of `other`, rounded."""
    names, regression = trained
    against_other = _rounded(regression.coef_[:2] - regression.coef_[2])
    bias = _rounded(regression.intercept_[:2] - regression.intercept_[2])
    learned = zip(names, against_other.T.tolist(), strict=True)
    kept = {name: Scores(*scores) for name, scores in learned if any(scores)}
    return Weights(threshold, Scores(*bias.tolist()), kept)


def _rounded(weights: Array) -> Array:
    return np.round(weights, DECIMALS) + 0.0  # no minus zero


if __name__ == "__main__":
    app()
