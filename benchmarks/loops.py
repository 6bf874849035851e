"""Repetition loops, into which small greedy models fall: they are copied with great success."""

from collections.abc import Sequence

_LONGEST_PERIOD = 64
_LEAST_TOKENS = 48
_LEAST_TIMES = 3


def ends_in_a_loop(tokens: Sequence[int]) -> bool:
    """Whether the end is one piece of text, over and over: three times at least, 48 tokens."""
    return any(_repeats(tokens, period) for period in range(1, _LONGEST_PERIOD + 1))


def _repeats(tokens: Sequence[int], period: int) -> bool:
    length = max(_LEAST_TIMES * period, _LEAST_TOKENS)
    end = tokens[len(tokens) - length :] if len(tokens) >= length else ()
    return bool(end) and all(one == other for one, other in zip(end, end[period:], strict=False))
