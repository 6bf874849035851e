"""What a request may lose by the drafts of others: an account of tokens said and steps waited.

The budget makes the whole batch fastest, so a request that nothing can be guessed for would pay for
forwards that are longer because others' can. A bound on every single step would forbid nearly all
drafts, as a few rows more may cost a tenth; but what counts is how fast an answer comes as a whole.
So each request has an account, and drafts are granted as long as nobody's is overdrawn. What there
is to spend goes to the drafts that bring most: time is the dearer the less is left. No torch.
"""

SHARE = 0.98  # of plain decoding's speed, which every request keeps
RESERVE = 0.15  # tokens: about what a step with others' drafts takes from an account
_AT_FIRST = 0.5  # tokens
_THRIFT = 0.5  # tokens: with so much left, waiting counts twice


class Account:
    """How many tokens a request is ahead of ``SHARE`` of what plain decoding would have said."""

    def __init__(self) -> None:
        self.balance = _AT_FIRST

    @property
    def is_low(self) -> bool:
        """Whether it may not wait for others now."""
        return self.balance < RESERVE

    def add(self, tokens: int, plain_steps: float) -> None:
        """Enter a step: the tokens it gave, and the time it took in steps without drafts."""
        self.balance += tokens - SHARE * plain_steps


def price_of_waiting(balance: float) -> float:
    """What a second of waiting for drafts counts for, where the poorest account has so much."""
    return 1 + _THRIFT / max(balance, RESERVE)
