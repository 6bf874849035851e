"""Random draft trees for property tests, and what they mean, spelled out plainly."""

from collections.abc import Iterator

from hypothesis import strategies as st

from decoding.draft import Draft

Path = tuple[int, ...]


@st.composite
def drafts(draw: st.DrawFn, most: int = 12, vocabulary: int = 3) -> Draft:
    """Any tree; the vocabulary is so small that siblings often carry the same token."""
    size = draw(st.integers(0, most))
    tokens = draw(st.lists(st.integers(0, vocabulary - 1), min_size=size, max_size=size))
    parents = [draw(st.integers(-1, node - 1)) for node in range(size)]
    return Draft(tuple(tokens), tuple(parents))


def node_path(draft: Draft, node: int) -> list[int]:
    """The nodes from the root side down to ``node``."""
    return [] if node < 0 else [*node_path(draft, draft.parents[node]), node]


def token_path(draft: Draft, node: int) -> Path:
    return tuple(draft.tokens[each] for each in node_path(draft, node))


def token_paths(draft: Draft) -> Iterator[Path]:
    """What every node spells, in the order of the nodes."""
    return (token_path(draft, node) for node in range(len(draft.tokens)))
