"""Decoding with nothing that cuts a draft, and what it took.

The engine has no price list and no governor, so all that a strategy proposes is verified; its limit
on rows is out of reach; and more tokens are asked for than are counted, so that the end of an
answer cuts nothing either. Every answer is decoded by an engine that knows nothing of others. What
is counted is rows and forwards: the same on any machine that computes the same bits.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.answering import Answerer, asking
from benchmarks.replay import Drafter, replay
from decoding.draft import Draft
from decoding.options import Limits
from decoding.request import OptionValue

NEW_TOKENS = 256
_BEYOND = 160  # tokens: more than any draft here is deep
_LIMITS = Limits(step_tokens=2048, prefix_cache=False)


class Forwards(NamedTuple):
    """So many tokens, and the rows of each forward they took: one, and what was drafted."""

    tokens: int
    rows: tuple[int, ...]

    @property
    def num_forwards(self) -> int:
        """The one that read the prompt included."""
        return len(self.rows)

    @property
    def tokens_each(self) -> float:
        """Tokens per forward; plain decoding has 1."""
        return self.tokens / self.num_forwards

    @property
    def rows_each(self) -> float:
        """Rows of a forward in the mean; plain decoding has 1."""
        return sum(self.rows) / self.num_forwards


def added(forwards: Iterable[Forwards]) -> Forwards:
    """All together."""
    found = list(forwards)
    return Forwards(sum(each.tokens for each in found), sum((each.rows for each in found), ()))


def decoded(
    answerer: Answerer,
    prompt: Sequence[int],
    answer: Sequence[int],
    strategy: str,
    options: Mapping[str, OptionValue],
) -> Forwards:
    """Have the model say ``answer`` once more, with a strategy whose drafts nothing cuts.

    Raises:
        AssertionError: it says something else, which would be a defect.
    """
    engine = answerer.unpriced(_LIMITS)
    engine.add(asking("sweep", prompt, NEW_TOKENS + _BEYOND, strategy, options))
    tokens: list[int] = []
    rows: list[int] = []
    while engine.has_work and len(tokens) < len(answer):
        for output in engine.step().outputs:
            tokens += output.tokens
            rows += [1 + output.drafted] * output.steps
    engine.abort("sweep")
    assert tokens[: len(answer)] == list(answer), f"{strategy} {dict(options)} is not lossless"
    return Forwards(len(answer), tuple(rows))


def replayed(drafter: Drafter, answer: Sequence[int]) -> Forwards:
    """What a drafter that needs no model would have taken for it."""
    recorded = _Recorded(drafter)
    replay(recorded, answer)
    return Forwards(len(answer), tuple(recorded.rows))


class _Recorded:
    """A drafter, and how many rows its drafts made of each forward."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self.rows: list[int] = []

    def draft(self) -> Draft:
        draft = self._drafter.draft().merged()
        self.rows.append(1 + len(draft.tokens))
        return draft

    def extend(self, tokens: Sequence[int]) -> None:
        self._drafter.extend(tokens)
