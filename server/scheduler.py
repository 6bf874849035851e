"""Which decoding strategy answers a request: a pure function of what was asked and the load."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from decoding import strategies
from decoding.request import OptionValue, SourceCounts
from decoding.strategies import OptionError
from server.engine_client import Load
from server.errors import invalid, shorten
from server.history import Outcome
from server.router import default_router

AUTO = "auto"
# Fields of `decoding` that are no options:
BUDGET = "budget"  # asks for the draft budget's decisions
LOSSLESS = "lossless"  # asks for the answer of plain decoding, whichever strategy gives it

_LEAST_TO_GUESS = 5  # tokens an answer may have, for guessing to be worth a thought
_LEAST_TO_OUTLINE = 128  # the same for an outline


Cause = Literal[
    "asked",
    "short",
    "prediction",
    "documents",
    "history",
    "prompt",
    "points",
    "trained",
    "busy",
    "open",
]
"""Why a strategy was chosen, in one word: the label of the metrics."""


class Choice(NamedTuple):
    """The strategy that answers, and why.

    One that forks has a ``fallback``: by it its branches decode, and the whole answer if need be.
    """

    strategy: str
    options: dict[str, OptionValue]
    cause: Cause
    reason: str
    fallback: "Choice | None" = None

    @property
    def lossless(self) -> bool:
        """Whether the answer is the one plain decoding gives."""
        return strategies.is_lossless(self.strategy)

    def fallen_back(self, reason: str) -> "Choice":
        """What answers where this strategy could not, for this reason."""
        if self.fallback is None:
            return self
        return self.fallback._replace(reason=f"{reason}, and {self.fallback.reason}")

    def facts(self) -> dict[str, str]:
        """What the log says of it."""
        return {"strategy": self.strategy, "cause": self.cause, "reason": self.reason}

    def figures(self, sources: Mapping[str, SourceCounts]) -> dict[str, float]:
        """What the strategy reports of itself, from what became of its drafts."""
        return strategies.figures(self.strategy, self.options, sources)


class _Pick(NamedTuple):
    """A strategy, and why it suits."""

    strategy: str
    cause: Cause
    reason: str


class Policy(NamedTuple):
    """What the operator decided: defaults of options, by strategy, and what the model is.

    ``consistency_trained`` says that it was trained to correct whole blocks of guesses. With
    ``lossless_only`` no answer differs from that of plain decoding. Beside ``skeleton_beside``
    requests or more, none is answered by skeleton unless it asks for it.
    """

    options: Mapping[str, Mapping[str, OptionValue]] = MappingProxyType({})
    consistency_trained: bool = False
    lossless_only: bool = False
    skeleton_beside: int = 1


DEFAULT_POLICY = Policy()


class Known(NamedTuple):
    """What is known of a request beside its ``decoding`` field.

    ``question`` is the last thing the user wrote, ``has_earlier_turns`` whether the model has
    answered in this conversation before. ``pinned_by`` is the field for which the answer must be
    that of plain decoding, ``answer_limit`` the most tokens it may have, if the request says so.
    """

    question: str = ""
    has_earlier_turns: bool = False
    has_documents: bool = False
    has_prediction: bool = False
    history: Outcome = "off"
    pinned_by: str = ""
    answer_limit: int | None = None


def check(decoding: Mapping[str, OptionValue]) -> None:
    """Check a ``decoding`` field, before any work is done for the request.

    Raises:
        ApiError: the strategy or one of its options does not exist, or has a wrong value.
    """
    for field in (BUDGET, LOSSLESS):
        if not isinstance(decoding.get(field, False), bool):
            raise invalid(f"'{field}' must be true or false", f"decoding.{field}")
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
    lossless = _choice(_short(known) or _repeating(known) or _busy(load) or _open(policy), policy)
    strategy = strategy_of(decoding)
    if strategy != AUTO:
        chosen = asked_for(decoding, policy)
        return chosen._replace(fallback=lossless) if strategies.is_forking(strategy) else chosen
    if points := in_points(known, load, policy):
        return points._replace(fallback=lossless)
    return lossless


def asked_for(decoding: Mapping[str, OptionValue], policy: Policy) -> Choice:
    """The strategy that a ``decoding`` field names."""
    strategy, options = _split(decoding)
    return _choice(_Pick(strategy, "asked", "the request asked for it"), policy, options)


def in_points(known: Known, load: Load, policy: Policy) -> Choice | None:
    """Skeleton, where the answer may be written in points and will not repeat something."""
    pick = None if _repeating(known) else _in_points(known, load, policy)
    return _choice(pick, policy) if pick else None


def strategy_of(decoding: Mapping[str, OptionValue]) -> str:
    """The strategy that a ``decoding`` field names, or ``auto``."""
    return _split(decoding)[0]


def wants_history(decoding: Mapping[str, OptionValue]) -> bool:
    """Whether past answers could be of use for a request."""
    return strategy_of(decoding) in (AUTO, "reference", "lookahead", "skeleton")


def explains_drafts(decoding: Mapping[str, OptionValue]) -> bool:
    """Whether a request asks for the draft budget's decisions."""
    return bool(decoding.get(BUDGET, False))


def _split(decoding: Mapping[str, OptionValue]) -> tuple[str, dict[str, OptionValue]]:
    options = {n: value for n, value in decoding.items() if n not in (BUDGET, LOSSLESS)}
    return str(options.pop("strategy", AUTO)), options


def _choice(
    pick: _Pick, policy: Policy, options: Mapping[str, OptionValue] = MappingProxyType({})
) -> Choice:
    """What was picked, with the operator's options beneath those of the request."""
    return Choice(
        pick.strategy, {**policy.options.get(pick.strategy, {}), **options}, pick.cause, pick.reason
    )


def _check_options(strategy: str, options: Mapping[str, OptionValue]) -> None:
    try:
        strategies.check(strategy, options)
    except OptionError as error:
        raise invalid(shorten(str(error)), f"decoding.{shorten(error.field)}") from error


def _short(known: Known) -> _Pick | None:
    """What to do where there is hardly anything to guess."""
    if _is_under(known.answer_limit, _LEAST_TO_GUESS):
        reason = f"an answer of {known.answer_limit} tokens at most leaves nothing to guess"
        return _Pick("autoregressive", "short", reason)
    return None


def _is_under(answer_limit: int | None, least: int) -> bool:
    return answer_limit is not None and answer_limit < least


def _repeating(known: Known) -> _Pick | None:
    """What to do where the answer will repeat something, and why it should."""
    if known.has_prediction:
        return _Pick("reference", "prediction", "the request predicts the answer")
    if known.has_documents:
        return _Pick("reference", "documents", "the request brings documents")
    if known.history == "hit":
        return _Pick("reference", "history", "the same prompt was answered before")
    if known.history == "similar":
        return _Pick("reference", "history", "a similar prompt was answered before")
    if asked := repeats_the_prompt(known):
        return _Pick("reference", "prompt", f"the prompt asks to {asked} text that it holds")
    return None


def _busy(load: Load) -> _Pick | None:
    """What to do where guessing would only be in the way."""
    if load.drafting_rests:
        reason = f"beside {load.running} others drafting does not pay now"
        return _Pick("autoregressive", "busy", reason)
    return None


def _in_points(known: Known, load: Load, policy: Policy) -> _Pick | None:
    """Whether the answer may be written in points side by side, which changes it."""
    if policy.lossless_only or known.pinned_by or _is_under(known.answer_limit, _LEAST_TO_OUTLINE):
        return None
    if load.requests >= policy.skeleton_beside:
        return None
    verdict = default_router().judge(known.question)
    if verdict.kind != "independent":
        return None
    reason = f"the question asks for points that stand alone ({verdict.probability:.0%} sure)"
    return _Pick("skeleton", "points", reason)


def _open(policy: Policy) -> _Pick:
    """What to do where nothing is known that the answer would repeat."""
    if policy.consistency_trained:
        return _Pick("jacobi", "trained", "the model is trained for it")
    return _Pick("lookahead", "open", "nothing is known that the answer would repeat")


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
