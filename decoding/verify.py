"""The one acceptance rule: keep what the model itself would have said."""

from collections.abc import Sequence

from decoding.draft import Draft


def accepted_path(draft: Draft, choices: Sequence[int]) -> list[int]:
    """The nodes to keep, root side first.

    ``choices[0]`` is the token the request's own sampler takes after the last committed token and
    ``choices[1 + i]`` the one it takes after node ``i``, as if the path to it were the answer.
    Walk down while a child carries the chosen token. Drafts are deterministic, so for a choice
    drawn from the model's distribution this is exact rejection sampling (Leviathan et al., 2023,
    with a one-hot draft): the answer is the one plain decoding gives, token for token.

    Siblings must differ (``Draft.merged``), or the walk could miss the longer path.
    """
    child_of = {
        (parent, token): node
        for node, (parent, token) in enumerate(zip(draft.parents, draft.tokens, strict=True))
    }
    path: list[int] = []
    child = child_of.get((-1, choices[0]))
    while child is not None:
        path.append(child)
        child = child_of.get((child, choices[child + 1]))
    return path
