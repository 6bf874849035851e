"""Plain decoding: guess nothing, take one token a forward."""

from decoding.draft import Draft, Strategy
from decoding.sequence import Sequence

LOSSLESS = True


def decode(seq: Sequence) -> Strategy:
    """The baseline every lossless strategy is tested against."""
    while True:
        yield Draft()
