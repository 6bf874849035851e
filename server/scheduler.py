"""Which decoding strategy answers a request: a pure function of what was asked and the load."""

from collections.abc import Mapping
from typing import NamedTuple

from decoding import strategies
from decoding.request import OptionValue
from decoding.strategies import OptionError
from server.engine_client import Load
from server.errors import invalid, shorten

AUTO = "auto"


class Choice(NamedTuple):
    """The strategy that answers, and why."""

    strategy: str
    options: dict[str, OptionValue]
    reason: str

    @property
    def lossless(self) -> bool:
        """Whether the answer is the one plain decoding gives."""
        return strategies.is_lossless(self.strategy)


def choose(decoding: Mapping[str, OptionValue], load: Load) -> Choice:
    """Choose for a request with this ``decoding`` field (empty when it has none).

    Raises:
        ApiError: the strategy or one of its options does not exist.
    """
    options = dict(decoding)
    asked = options.pop("strategy", AUTO)
    if asked == AUTO:
        strategy, reason = _automatic(load)
    elif asked in strategies.names():
        strategy, reason = str(asked), "the request asked for it"
    else:
        valid = ", ".join([AUTO, *strategies.names()])
        message = f"There is no strategy '{shorten(str(asked))}'; choose one of: {valid}"
        raise invalid(message, "decoding.strategy")
    try:
        strategies.check(strategy, options)
    except OptionError as error:
        raise invalid(shorten(str(error)), f"decoding.{shorten(error.field)}") from error
    return Choice(strategy, options, reason)


def _automatic(load: Load) -> tuple[str, str]:
    return "autoregressive", "no other strategy is installed"
