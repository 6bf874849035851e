"""When the tokens of an answer came: what every contestant reports, and the speeds in it."""

from collections.abc import Sequence

from msgspec import Struct


class Timing(Struct, frozen=True, kw_only=True):
    """One answer. Seconds count from the moment its group of prompts was sent.

    ``tokens`` is empty where only text is visible from outside.
    """

    first: float
    last: float
    num_tokens: int
    text: str
    tokens: tuple[int, ...] = ()


def decode_speed(answers: Sequence[Timing]) -> float:
    """Tokens a second of all answers together, each one's first token left out.

    The clock runs from the earliest first token to the latest last one.
    """
    seconds = max(answer.last for answer in answers) - min(answer.first for answer in answers)
    return sum(answer.num_tokens - 1 for answer in answers) / seconds


def prefill_speed(answers: Sequence[Timing], prompt_tokens: int) -> float:
    """Prompt tokens a second, until the first token of the answer has arrived."""
    (answer,) = answers
    return prompt_tokens / answer.first
