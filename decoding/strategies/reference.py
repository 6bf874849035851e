"""Reference copy: guess that the answer goes on as known text did where it said the same."""

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from decoding.copying import Copier
from decoding.draft import Strategy
from decoding.recycling import Recycler
from decoding.tree import grow

if TYPE_CHECKING:
    from decoding.sequence import Sequence

LOSSLESS = True


def decode(
    seq: "Sequence",
    *,
    match: Annotated[int, Meta(ge=1, le=16)] = 1,
    copy: Annotated[int, Meta(ge=1, le=128)] = 96,
    recycling: bool = True,
) -> Strategy:
    """Copy from prediction, past answers, documents, prompt and the answer so far.

    LLMA (Yang et al., arXiv 2304.04487), with trees for drafts, as large as it pays by how well
    copying goes. ``match`` is LLMA's trigger length n: the tokens that must agree. ``copy`` is its
    block length k: the most tokens of a draft. ``recycling`` guesses, as ``lookahead``
    does, where there is little to copy.
    """
    experience = seq.experience
    confidence = experience.confidence
    guessers: list[Copier | Recycler] = [
        Copier(seq.request.references, seq.tokens, match=match, general=confidence)
    ]
    if recycling:
        guessers.append(Recycler(experience.successors, seq.tokens[-1], confidence))
    seq.recycles = recycling
    while True:
        verdict = yield grow(guessers, nodes=copy, least_chance=seq.least_chance)
        for guesser in guessers:
            guesser.extend(verdict.tokens)
