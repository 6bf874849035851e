"""From logits to tokens: a function of a row's logits, its request's sampling and its position.

Nothing here depends on which other rows are in the batch, and there is no generator state: the
random number of a token is a hash of the request's seed and the token's position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.drawing import draw
from decoding.request import Sampling, TokenLogprob

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Row:
    """Everything a row's choice depends on besides its logits.

    ``position`` is that of the token to choose; ``answer`` holds the answer's tokens up to there,
    the draft path of the row included; ``banned`` tokens cannot be chosen.
    """

    sampling: Sampling
    seed: int
    position: int
    prompt: Sequence[int] = ()
    answer: Sequence[int] = ()
    banned: Sequence[int] = ()


def choose(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of every row; ``logits`` is ``[rows, vocabulary]`` in any float type.

    Raises:
        ValueError: a row is not a distribution: it holds NaN or +inf, or nothing above −inf,
            once penalties, bias and bans are applied.
    """
    adjusted = _adjusted(logits, rows)
    tokens = _first_largest(adjusted)
    if not adjusted.gather(1, tokens[:, None]).isfinite().all():
        raise ValueError("the logits are not those of a distribution")
    drawn = [i for i, row in enumerate(rows) if row.sampling.temperature > 0]
    if drawn:
        index = torch.tensor(drawn, device=logits.device)
        numbers = [uniform(rows[i].seed, rows[i].position) for i in drawn]
        tokens[index] = draw(adjusted[index].float(), [rows[i].sampling for i in drawn], numbers)
    chosen: list[int] = tokens.tolist()
    return chosen


def _first_largest(logits: Tensor) -> Tensor:
    """The lowest token of the largest logit in each row; that of a NaN if there is one."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(logits.numpy().argmax(-1))  # several times faster than torch's
    return logits.argmax(-1)


def log_probabilities(logits: Tensor, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
    """The model's own log-probabilities of ``tokens``, one a row, and of the ``top`` likeliest.

    Ties go to the lower id, as a greedy choice does: it is the first of ``top``.
    """
    logprobs = logits.float().log_softmax(-1)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    best = _likeliest(logits, top)
    listed = zip(best.tolist(), logprobs.gather(1, best).tolist(), strict=True)
    return [
        TokenLogprob(token, logprob, tuple(zip(*alternatives, strict=True)))
        for token, logprob, alternatives in zip(tokens, chosen.tolist(), listed, strict=True)
    ]


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that is a pure function of its arguments (SplitMix64 of both)."""
    return (_mix(_mix(seed & _MASK) ^ position) >> 11) * 2.0**-53


def choice_seed(seed: int, index: int) -> int:
    """The seed of choice ``index`` of a request with ``n`` choices; the first keeps its own."""
    return seed if index == 0 else _mix(seed ^ _mix(index))


def _mix(value: int) -> int:
    """SplitMix64's step (Steele, Lea and Flood, 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _likeliest(logits: Tensor, top: int) -> Tensor:
    """The ids of the ``top`` largest logits, largest first; of equal ones the lower id first."""
    top = min(top, logits.shape[-1])
    if top == 0:
        return torch.empty(len(logits), 0, dtype=torch.int64, device=logits.device)
    # topk takes any of the tokens that equal its last one, so look at all of them.
    rows, tokens = (logits >= logits.topk(top).values[:, -1:]).nonzero(as_tuple=True)
    order = logits[rows, tokens].sort(descending=True, stable=True).indices
    order = order[rows[order].sort(stable=True).indices]  # by row, then value, then id
    counts = rows.bincount(minlength=len(logits))
    first_of_row = (counts.cumsum(0) - counts)[:, None]
    return tokens[order][first_of_row + torch.arange(top, device=logits.device)]


# --- what changes the logits before a choice -------------------------------------------------


def _adjusted(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    changed = [i for i, row in enumerate(rows) if _changes_logits(row)]
    if not changed:
        return logits
    adjusted = logits.float()
    if adjusted is logits:
        adjusted = logits.clone()
    for i in changed:
        _adjust(adjusted[i], rows[i])
    return adjusted


def _changes_logits(row: Row) -> bool:
    sampling = row.sampling
    return bool(
        row.banned
        or sampling.logit_bias
        or sampling.repetition_penalty != 1
        or sampling.presence_penalty
        or sampling.frequency_penalty
    )


def _adjust(logits: Tensor, row: Row) -> None:
    """Apply penalties, bias and bans to one row, in place; ``logits`` is ``[vocabulary]``."""
    sampling = row.sampling
    if sampling.repetition_penalty != 1:
        _penalise_repetition(logits, {*row.prompt, *row.answer}, sampling.repetition_penalty)
    if row.answer and (sampling.presence_penalty or sampling.frequency_penalty):
        tokens, counts = torch.tensor(row.answer, device=logits.device).unique(return_counts=True)
        logits[tokens] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    if sampling.logit_bias:
        biased = torch.tensor(list(sampling.logit_bias), device=logits.device)
        logits[biased] += torch.tensor(list(sampling.logit_bias.values()), device=logits.device)
    if row.banned:
        logits[torch.tensor(row.banned, device=logits.device)] = -torch.inf


def _penalise_repetition(logits: Tensor, seen: set[int], penalty: float) -> None:
    """Divide positive and multiply negative logits of seen tokens (Keskar et al., 2019, CTRL)."""
    tokens = torch.tensor(sorted(seen), device=logits.device)
    scores = logits[tokens]
    logits[tokens] = torch.where(scores > 0, scores / penalty, scores * penalty)
