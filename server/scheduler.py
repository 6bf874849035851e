"""Which decoding strategy answers a request: a pure function of what was asked and the load."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from decoding import strategies
from decoding.request import OptionValue, SourceCounts
from decoding.strategies import OptionError
from server.engine_client import Load
from server.errors import invalid, shorten
from server.history import Outcome

AUTO = "auto"
BUDGET = "budget"  # the field of `decoding` that asks for the draft budget's decisions


class Choice(NamedTuple):
    """The strategy that answers, and why."""

    strategy: str
    options: dict[str, OptionValue]
    reason: str

    @property
    def lossless(self) -> bool:
        """Whether the answer is the one plain decoding gives."""
        return strategies.is_lossless(self.strategy)

    def figures(self, sources: Mapping[str, SourceCounts]) -> dict[str, float]:
        """What the strategy reports of itself, from what became of its drafts."""
        return strategies.figures(self.strategy, self.options, sources)


class Policy(NamedTuple):
    """What the operator decided: defaults of options, by strategy, and what the model is.

    ``consistency_trained`` says that it was trained to correct whole blocks of guesses.
    """

    options: Mapping[str, Mapping[str, OptionValue]] = MappingProxyType({})
    consistency_trained: bool = False


DEFAULT_POLICY = Policy()


class Known(NamedTuple):
    """What is known of a request beside its ``decoding`` field.

    ``question`` is the last thing the user wrote, ``has_earlier_turns`` whether the model has
    answered in this conversation before.
    """

    question: str = ""
    has_earlier_turns: bool = False
    has_documents: bool = False
    has_prediction: bool = False
    history: Outcome = "off"


def check(decoding: Mapping[str, OptionValue]) -> None:
    """Check a ``decoding`` field, before any work is done for the request.

    Raises:
        ApiError: the strategy or one of its options does not exist, or has a wrong value.
    """
    if not isinstance(decoding.get(BUDGET, False), bool):
        raise invalid(f"'{BUDGET}' must be true or false", f"decoding.{BUDGET}")
    strategy, options = _split(decoding)
    if strategy == AUTO:
        if options:
            option = shorten(next(iter(options)))
            message = f"Name the strategy that '{option}' is for: '{AUTO}' takes no options"
            raise invalid(message, f"decoding.{option}")
    elif strategy not in strategies.names():
        valid = ", ".join([AUTO, *strategies.names()])
        message = f"There is no strategy '{shorten(strategy)}'; choose one of: {valid}"
        raise invalid(message, "decoding.strategy")
    else:
        _check_options(strategy, options)


def choose(
    decoding: Mapping[str, OptionValue],
    known: Known,
    load: Load,
    policy: Policy = DEFAULT_POLICY,
) -> Choice:
    """Choose for a request with this checked ``decoding`` field (empty when it has none)."""
    strategy, options = _split(decoding)
    reason = "the request asked for it"
    if strategy == AUTO:
        strategy, reason = _repeating(known) or _open(policy)
    return Choice(strategy, {**policy.options.get(strategy, {}), **options}, reason)


def wants_history(decoding: Mapping[str, OptionValue]) -> bool:
    """Whether past answers could be of use for a request."""
    return _split(decoding)[0] in (AUTO, "reference", "lookahead")


def explains_drafts(decoding: Mapping[str, OptionValue]) -> bool:
    """Whether a request asks for the draft budget's decisions."""
    return bool(decoding.get(BUDGET, False))


def _split(decoding: Mapping[str, OptionValue]) -> tuple[str, dict[str, OptionValue]]:
    options = {name: value for name, value in decoding.items() if name != BUDGET}
    return str(options.pop("strategy", AUTO)), options


def _check_options(strategy: str, options: Mapping[str, OptionValue]) -> None:
    try:
        strategies.check(strategy, options)
    except OptionError as error:
        raise invalid(shorten(str(error)), f"decoding.{shorten(error.field)}") from error


def _repeating(known: Known) -> tuple[str, str] | None:
    """What to do where the answer will repeat something, and why it should."""
    if known.has_prediction:
        return "reference", "the request predicts the answer"
    if known.has_documents:
        return "reference", "the request brings documents"
    if known.history == "hit":
        return "reference", "the same prompt was answered before"
    if known.history == "similar":
        return "reference", "a similar prompt was answered before"
    if asked := repeats_the_prompt(known):
        return "reference", f"the prompt asks to {asked} text that it holds"
    return None


def _open(policy: Policy) -> tuple[str, str]:
    """What to do where nothing is known that the answer would repeat."""
    if policy.consistency_trained:
        return "jacobi", "the model is trained for it"
    return "lookahead", "nothing is known that the answer would repeat"


# --- does the answer repeat the prompt? ---

_LEAST_MATERIAL = 200  # characters; an answer that repeats less is not worth a word
_INSTRUCTION = 300  # characters at either end of a prompt: pasted text stands between

# What a prompt calls for in English, German, French, Spanish, Chinese or Japanese. A summary
# repeats little, unless it is to quote; a translation nothing.
_CALLS: Mapping[str, str] = {
    "quote": r"quot(?:e|es|ing|ations?)|cit(?:e|es|ing)|verbatim|word for word|zitier\w*|引用|摘录",
    "rewrite": r"(?:rewrite|rephrase|reword|proofread|polish)|umschreib\w*|réécri\w*|reescrib\w*"
    r"|改写|書き直",
    "edit": r"edit|revise|correct|fix|change|replace|rename|refactor|modify|update|insert|reformat"
    r"|korrigier\w*|corrig\w*|ändere|ersetze|remplace|reemplaza|修改|替换|校对|修正|校正",
    "repeat": r"repeat|copy|extract|wiederhol\w*|répèt\w*|repite|重复|繰り返",
}
_CALL = re.compile(
    "|".join(rf"(?<![a-z])(?P<{name}>{words})(?![a-z])" for name, words in _CALLS.items()),
    re.IGNORECASE,
)


def repeats_the_prompt(known: Known) -> str | None:
    """What the prompt asks to do with text that it holds, or None.

    A cheap sign: there is text to repeat, pasted or answered before, and one of the few words that
    call for repeating it stands where instructions stand, at the prompt's beginning or end.
    """
    question = known.question
    if len(question) < _LEAST_MATERIAL and not known.has_earlier_turns:
        return None
    found = _CALL.search(f"{question[:_INSTRUCTION]}\n{question[_INSTRUCTION:][-_INSTRUCTION:]}")
    return found.lastgroup if found else None
