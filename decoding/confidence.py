"""How often copying is right: counted at every token, whether anything was drafted or not."""

from collections import defaultdict

LONGEST_MATCH = 16  # tokens; longer matches are not told apart

_PRIOR_WEIGHT = 2.0  # tokens that the prior counts for
_DECAY = 0.95  # of what was counted, with every token: about the last twenty matter
_CLASS_OF_LENGTH = (0, 1, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7)

# By class of length. How often the default model's answers (to questions, quotes, rewrites and code
# edits that no benchmark here asks for) went on as the text did, first where nothing spoke against
# it, then where other places went on otherwise.
_PRIORS = (
    (0.35, 0.35, 0.6, 0.7, 0.8, 0.9, 0.94, 0.98),
    (0.3, 0.13, 0.36, 0.5, 0.55, 0.73, 0.75, 0.86),
)

_Kind = tuple[str, int, bool]


class Confidence:
    """The chance that text goes on alike, by its source, the match so far, and contradiction.

    ``length`` is how many tokens match so far; ``is_contested`` whether other places with a match
    go on otherwise. What was lately seen counts most.
    """

    def __init__(self) -> None:
        self._right: defaultdict[_Kind, float] = defaultdict(float)
        self._seen: defaultdict[_Kind, float] = defaultdict(float)

    def chance(self, source: str, length: int, is_contested: bool) -> float:
        """The chance that the next token is the one foreseen."""
        kind = _kind(source, length, is_contested)
        right = self._right[kind] + _PRIOR_WEIGHT * _PRIORS[is_contested][kind[1]]
        return right / (self._seen[kind] + _PRIOR_WEIGHT)

    def learn(self, source: str, length: int, is_contested: bool, is_right: bool) -> None:
        """Count one token."""
        kind = _kind(source, length, is_contested)
        self._right[kind] = self._right[kind] * _DECAY + is_right
        self._seen[kind] = self._seen[kind] * _DECAY + 1


def _kind(source: str, length: int, is_contested: bool) -> _Kind:
    return source, _CLASS_OF_LENGTH[min(length, LONGEST_MATCH)], is_contested
