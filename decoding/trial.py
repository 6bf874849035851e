"""Work that pays off only later, if at all: how much it has, and when to try again. No torch."""

_PRIOR_WON, _PRIOR_SPENT = 4.0, 60.0  # tokens, nodes
_DECAY = 0.98
_SHORTEST_REST, _LONGEST_REST = 8, 4096  # steps of all requests together


class Trial:
    """Nodes of a draft that prepare guesses instead of being accepted themselves.

    ``worth`` is what such a node has brought, in accepted tokens: the chance it is proposed with.
    Where the engine refuses that price, the work rests for a while, longer each time.
    """

    def __init__(self) -> None:
        self._won, self._spent = _PRIOR_WON, _PRIOR_SPENT
        self._rest = 0
        self._next_rest = _SHORTEST_REST

    @property
    def worth(self) -> float:
        """Accepted tokens a node, at most 1."""
        return min(1.0, self._won / self._spent)

    @property
    def is_resting(self) -> bool:
        """Whether it is not to be tried in this step."""
        return self._rest > 0

    @property
    def rest(self) -> int:
        """Steps that it is still to rest."""
        return max(0, self._rest)

    def pass_steps(self, count: int) -> None:
        """Rest through so many steps."""
        self._rest = max(0, self._rest - count)

    def refused(self) -> None:
        """The engine did not take it: rest."""
        if self.is_resting:  # another request has heard of it in this step
            return
        self._rest = self._next_rest
        self._next_rest = min(2 * self._next_rest, _LONGEST_REST)

    def took(self, spent: int, won: int) -> None:
        """So many nodes were computed in a step that accepted so many tokens due to them."""
        self._won = self._won * _DECAY + won
        self._spent = self._spent * _DECAY + spent
        self._next_rest = _SHORTEST_REST
