"""Drawing a token from a distribution: filters, then the inverse of the distribution function.

All rows at once, and nothing is sorted that need not be: a filter keeps what is not below a floor,
and the number drawn looks for its token among the sums of blocks first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from decoding.request import Sampling

_CANDIDATES = (128, 1024)  # the likeliest tokens looked at for a floor, before all of them
_BLOCK = 256


def draw(logits: Tensor, samplings: Sequence[Sampling], numbers: Sequence[float]) -> Tensor:
    """The token of each row, ``[rows]``, at its number in [0, 1).

    ``logits`` is ``[rows, vocabulary]`` in float32 or wider. A token that a filter drops or whose
    logit is −inf is never drawn.
    """
    temperatures = _column([sampling.temperature for sampling in samplings], logits)
    # Neither rounded to zero nor to infinity: both would make NaN.
    temperatures.clamp_(torch.finfo(logits.dtype).tiny, torch.finfo(logits.dtype).max)
    # Measured from the row's maximum, so that no temperature can overflow it.
    scaled = (logits - logits.amax(-1, keepdim=True)).div_(temperatures)
    weights = scaled.exp()
    if any(_filters(sampling, logits.shape[-1]) for sampling in samplings):
        totals = weights.sum(-1, dtype=torch.float64)
        weights *= scaled >= _floors(scaled, totals, samplings)[:, None]
    return _at(weights, torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None])


def _at(weights: Tensor, numbers: Tensor) -> Tensor:
    """The first token at which the weights' running sum passes the number's share of the total."""
    blocks = F.pad(weights, (0, -weights.shape[-1] % _BLOCK)).view(len(weights), -1, _BLOCK)
    sums = blocks.sum(-1).double()
    running = sums.cumsum(-1)
    target = numbers * running[:, -1:]
    block = _passing(running, target)
    before = running.gather(1, block) - sums.gather(1, block)
    within = blocks.gather(1, block[:, :, None].expand(-1, -1, _BLOCK))[:, 0]
    token = _passing(within.double().cumsum(-1), (target - before).clamp_(min=0))
    return (block * _BLOCK + token)[:, 0]


def _passing(running: Tensor, target: Tensor) -> Tensor:
    """The first entry above the target; never one that adds nothing, however sums were rounded."""
    last = torch.searchsorted(running, running[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(running, target, right=True), last)


# --- filters ---------------------------------------------------------------------------------


def _filters(sampling: Sampling, vocabulary: int) -> bool:
    return 0 < sampling.top_k < vocabulary or sampling.top_p < 1 or sampling.min_p > 0


def _floors(scaled: Tensor, totals: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """The least logit that top_k, then top_p, then min_p keep, ``[rows]``.

    Equal tokens stay or go together. ``totals`` are the sums of the exponentials of ``scaled``.
    """
    vocabulary = scaled.shape[-1]
    floors = _column([sampling.min_p for sampling in samplings], scaled)[:, 0].log_()
    ranks = torch.tensor([s.top_k if s.top_k < vocabulary else 0 for s in samplings])
    shares = torch.tensor([s.top_p for s in samplings], dtype=torch.float64)
    pending = ((ranks > 0) | (shares < 1)).nonzero()[:, 0].to(scaled.device)
    ranks, shares = ranks.to(scaled.device), shares.to(scaled.device)
    for width in (*(each for each in _CANDIDATES if each < vocabulary), vocabulary):
        if len(pending):
            likeliest = scaled[pending].topk(width).values
            found, settled = _among(likeliest, totals[pending], ranks[pending], shares[pending])
            settled |= width == vocabulary
            done = pending[settled]
            floors[done] = torch.maximum(floors[done], found[settled])
            pending = pending[~settled]
    return floors


def _among(
    likeliest: Tensor, totals: Tensor, ranks: Tensor, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """Each row's floor by top_k and top_p, and whether its likeliest tokens suffice to tell."""
    width = likeliest.shape[-1]
    ranked = ranks > 0
    lowest = likeliest.gather(1, (ranks.clamp(1, width) - 1)[:, None])
    lowest = lowest.masked_fill(~ranked[:, None], -torch.inf)
    weights = likeliest.double().exp() * (likeliest >= lowest)
    running = weights.cumsum(-1)
    goals = shares * torch.where(ranked, running[:, -1], totals)
    inside = (running - weights < goals[:, None]) & (weights > 0)
    nucleus = likeliest.gather(1, inside.sum(-1, keepdim=True).clamp(min=1) - 1)
    nucleus = nucleus.masked_fill((shares >= 1)[:, None], -torch.inf)
    enough_ranks = ~ranked | (likeliest[:, -1] < lowest[:, 0])
    enough_share = (shares >= 1) | (running[:, -1] >= goals)
    return torch.maximum(lowest, nucleus)[:, 0], enough_ranks & enough_share


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
