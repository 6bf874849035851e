"""The protocol between a strategy and the engine: drafts go in, verdicts come back. No torch."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Draft:
    """A tree of guessed tokens.

    Node ``i`` guesses ``tokens[i]`` to follow node ``parents[i]``; parent −1 is the last committed
    token. Parents come before their children (``parents[i] < i``), so any prefix of a draft is a
    draft. Siblings may carry the same token: the engine merges them.

    Raises:
        ValueError: the lengths differ or a parent does not come before its child.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.parents):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.parents)} parents")
        if any(not -1 <= parent < node for node, parent in enumerate(self.parents)):
            raise ValueError("a parent must come before its child")

    @classmethod
    def chain(cls, tokens: Sequence[int]) -> Self:
        """One guess after the other."""
        return cls(tuple(tokens), tuple(range(-1, len(tokens) - 1)))

    def merged(self) -> "Draft":
        """The same paths as a trie: siblings with equal tokens become one node."""
        if not self.tokens:
            return self
        node_of: dict[tuple[int, int], int] = {}  # (merged parent, token) -> merged node
        merged_of: list[int] = []
        for token, parent in zip(self.tokens, self.parents, strict=True):
            key = (-1 if parent < 0 else merged_of[parent], token)
            merged_of.append(node_of.setdefault(key, len(node_of)))
        return Draft(tuple(token for _, token in node_of), tuple(parent for parent, _ in node_of))

    def clipped(self, depth: int, nodes: int) -> "Draft":
        """The part within ``depth`` tokens of the root and the first ``nodes`` nodes."""
        if not self.tokens:
            return self
        depths: list[int] = []
        kept_of: dict[int, int] = {-1: -1}
        for node, parent in enumerate(self.parents):
            depths.append(1 if parent < 0 else depths[parent] + 1)
            if depths[node] <= depth and len(kept_of) <= nodes:
                kept_of[node] = len(kept_of) - 1
        del kept_of[-1]
        return Draft(
            tuple(self.tokens[node] for node in kept_of),
            tuple(kept_of.get(self.parents[node], -1) for node in kept_of),
        )


NO_DRAFT = Draft()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a draft.

    ``tokens`` were appended to the sequence: the accepted path and the model's own token after it,
    cut where the answer ended. ``accepted`` of them came from the draft. ``verified`` is the draft
    as it was verified (siblings merged, cut to the budget) and ``choices`` the model's token after
    the root and after every node of it: one more than there are nodes.
    """

    tokens: tuple[int, ...]
    accepted: int
    verified: Draft = NO_DRAFT
    choices: tuple[int, ...] = ()


Strategy = Generator[Draft, Verdict, None]
"""What a strategy module's ``decode`` returns; closing it aborts, ``yield from`` falls back."""
