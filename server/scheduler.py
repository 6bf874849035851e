"""Which decoding strategy answers a request: a pure function of what was asked and the load."""

from collections.abc import Mapping
from typing import NamedTuple

from decoding.request import OptionValue
from server.engine_client import Load
from server.errors import invalid, shorten

AUTO = "auto"


class Strategy(NamedTuple):
    """What the scheduler knows of a strategy."""

    lossless: bool  # whether its answers are those of plain decoding
    options: frozenset[str] = frozenset()


STRATEGIES: Mapping[str, Strategy] = {"autoregressive": Strategy(lossless=True)}


class Choice(NamedTuple):
    """The strategy that answers, and why."""

    strategy: str
    options: dict[str, OptionValue]
    reason: str

    @property
    def lossless(self) -> bool:
        """Whether the answer is the one plain decoding gives."""
        return STRATEGIES[self.strategy].lossless


def choose(decoding: Mapping[str, OptionValue], load: Load) -> Choice:
    """Choose for a request with this ``decoding`` field (empty when it has none).

    Raises:
        ApiError: the strategy or one of its options does not exist.
    """
    options = dict(decoding)
    asked = options.pop("strategy", AUTO)
    if asked != AUTO and asked not in STRATEGIES:
        valid = ", ".join([AUTO, *STRATEGIES])
        message = f"There is no strategy '{shorten(str(asked))}'; choose one of: {valid}"
        raise invalid(message, "decoding.strategy")
    chosen, reason = _automatic(load) if asked == AUTO else (str(asked), "the request asked for it")
    _check_options(chosen, options)
    return Choice(chosen, options, reason)


def _automatic(load: Load) -> tuple[str, str]:
    return "autoregressive", "no other strategy is installed"


def _check_options(strategy: str, options: Mapping[str, OptionValue]) -> None:
    valid = STRATEGIES[strategy].options
    for name in options:
        if name not in valid:
            known = f"it takes {', '.join(sorted(valid))}" if valid else "it takes none"
            message = f"Strategy '{strategy}' has no option '{shorten(name)}': {known}"
            raise invalid(message, f"decoding.{shorten(name)}")
