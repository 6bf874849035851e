"""Reference copy: guess that the answer goes on as known text did where it said the same."""

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from decoding.copying import Copier
from decoding.draft import Strategy
from decoding.tree import grow

if TYPE_CHECKING:
    from decoding.sequence import Sequence

LOSSLESS = True


def decode(
    seq: "Sequence",
    *,
    match: Annotated[int, Meta(ge=1, le=16)] = 1,
    copy: Annotated[int, Meta(ge=1, le=128)] = 32,
) -> Strategy:
    """Copy from prediction, past answers, documents, prompt and the answer so far.

    LLMA (Yang et al., arXiv 2304.04487), with trees for drafts, as large as it pays by how well
    copying goes. ``match`` is LLMA's trigger length n: the tokens that must agree. ``copy`` is its
    block length k: the most tokens of a draft.
    """
    general = seq.experience.confidence
    copier = Copier(seq.request.references, seq.tokens, match=match, general=general)
    while True:
        verdict = yield grow([copier], nodes=copy, least_chance=seq.least_chance)
        copier.extend(verdict.tokens)
