"""Plain decoding: guess nothing, take one token a forward."""

from typing import TYPE_CHECKING

from decoding.draft import Strategy

if TYPE_CHECKING:
    from decoding.sequence import Sequence

LOSSLESS = True


def decode(seq: "Sequence") -> Strategy:
    """The baseline every lossless strategy is tested against: a strategy with nothing to say."""
    yield from ()
    return None
