"""The protocol between a strategy and the engine: drafts go in, verdicts come back. No torch."""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self


@dataclass(frozen=True, slots=True)
class Draft:
    """A tree of guessed tokens.

    Node ``i`` guesses ``tokens[i]`` to follow node ``parents[i]``; parent −1 is the last committed
    token. Parents come before their children (``parents[i] < i``), so any prefix of a draft is a
    draft. Siblings may carry the same token: the engine merges them.

    ``chances`` are the strategy's estimates that a node is accepted, none above its parent's: by
    them the engine decides which nodes are worth their price. Without them all nodes count as
    certain. ``sources`` name where each guess is from: for the statistics, and because estimates
    are corrected by how those of their source turn out. A node without a source ("") is no guess,
    but prepares later ones; its chance is what it is worth and stays as it is.

    Raises:
        ValueError: the lengths differ or a parent does not come before its child.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.tokens)
        if size != len(self.parents):
            raise ValueError(f"{size} tokens but {len(self.parents)} parents")
        if len(self.chances) not in (0, size) or len(self.sources) not in (0, size):
            raise ValueError(f"chances and sources must be those of all {size} tokens, or of none")
        if any(not -1 <= parent < node for node, parent in enumerate(self.parents)):
            raise ValueError("a parent must come before its child")

    @classmethod
    def chain(cls, tokens: Sequence[int]) -> Self:
        """One guess after the other."""
        return cls(tuple(tokens), tuple(range(-1, len(tokens) - 1)))

    def merged(self) -> "Draft":
        """The same paths as a trie: siblings with equal tokens become the first one of them."""
        merged_of: list[int] = []
        first: dict[tuple[int, int], int] = {}  # (merged parent, token) -> node
        for node, (token, parent) in enumerate(zip(self.tokens, self.parents, strict=True)):
            key = (-1 if parent < 0 else merged_of[parent], token)
            merged_of.append(first.setdefault(key, node))
        if len(first) == len(self.tokens):
            return self
        return self._of(list(first.values()), [parent for parent, _ in first])

    def clipped(self, depth: int, nodes: int) -> "Draft":
        """The part within ``depth`` tokens of the root and the first ``nodes`` nodes."""
        if len(self.tokens) <= min(depth, nodes):
            return self
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        kept = [node for node, its_depth in enumerate(depths) if its_depth <= depth]
        return self.only(kept[:nodes])

    def only(self, nodes: Sequence[int]) -> "Draft":
        """The part that consists of these nodes, ascending, the parents of all among them."""
        if len(nodes) == len(self.tokens):
            return self
        return self._of(nodes, [self.parents[node] for node in nodes])

    def by_source(self, nodes: Iterable[int]) -> Counter[str]:
        """How many of these nodes are from each source."""
        return Counter(self.sources[node] if self.sources else "" for node in nodes)

    def _of(self, nodes: Sequence[int], parents: Sequence[int]) -> "Draft":
        """Some nodes with these parents, which are numbered as they are here."""
        new = {node: number for number, node in enumerate(nodes)} | {-1: -1}
        return Draft(
            tuple(self.tokens[node] for node in nodes),
            tuple(new[parent] for parent in parents),
            tuple(self.chances[node] for node in nodes) if self.chances else (),
            tuple(self.sources[node] for node in nodes) if self.sources else (),
        )


NO_DRAFT = Draft()


class Written(NamedTuple):
    """What a branch wrote, and whether it came to an end before its tokens ran out."""

    text: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a draft.

    ``tokens`` were appended to the sequence: the accepted path and the model's own token after it,
    cut where the answer ended. ``accepted`` of them came from the draft. ``verified`` is the draft
    as it was verified (siblings merged, cut to the budget) and ``choices`` the model's token after
    the root and after every node of it: one more than there are nodes.

    After a fork there is only what the branches have ``written``, in their order; nothing if their
    prompts leave no room for an answer.
    """

    tokens: tuple[int, ...]
    accepted: int
    verified: Draft = NO_DRAFT
    choices: tuple[int, ...] = ()
    written: tuple[Written, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Prompts to be decoded side by side, in place of the request's own.

    Branch ``i`` reads the request's prompt for ``stage`` with ``fields[i]`` filled in. What it
    writes ends in front of one of the strings ``stop``, behind so many ``sentences`` (0: however
    many), after ``max_tokens``, or where the model ends it, but not before ``min_tokens``. Its
    frequency penalty is the request's, but at least ``frequency_penalty``, and none of its tokens
    holds a character of ``without``; over an upstream, which cannot be told of it, ``min_tokens``
    and ``without`` do not hold.

    With ``leads`` the branches are the answer: ``leads[i]`` and then what branch ``i`` writes, in
    this order, the first unfinished one as it is written. Without leads nothing of them is shown.
    """

    stage: str
    fields: tuple[Mapping[str, str], ...]
    max_tokens: int
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    sentences: int = 0
    frequency_penalty: float = 0.0
    without: str = ""
    leads: tuple[str, ...] = ()


Strategy = Generator[Draft | Fork, Verdict, str | None]
"""What a strategy module's ``decode`` returns; closing it aborts, ``yield from`` falls back.

One that ends has nothing more to propose: the rest is decoded plainly. One that forks must do so
from the start; if it ends before it has shown anything, the request's ``fallback`` answers, and
what it returned is the reason.
"""
