"""Attention over the paged cache, registered with transformers as ``stride``.

Each layer writes its new keys and values to the cache and then answers the calls of the plan
(``decoding/eager/plan.py``). Keys are gathered by slot, so chains, branches and shared prefixes
are one case.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from decoding.eager.plan import Call, Plan

NAME = "stride"
# Arguments that may be ignored: always, because they steer other parts of a model, or at one value.
_HARMLESS = {"position_ids", "use_cache", "output_router_logits"}
_NEUTRAL = {"dropout": 0.0, "is_causal": True, "output_attentions": False}


class UnsupportedAttention(ValueError):
    """The model asks its attention for something this implementation does not do."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: Plan,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """The attention function transformers calls: write this step's keys and values, then attend.

    ``query`` is ``[1, heads, rows, head size]``, ``key`` and ``value`` the same with their heads;
    returns ``[1, rows, heads, head size]``.

    Raises:
        UnsupportedAttention: the model asks for what would change the result, or a layer has
            keys and values that the cache is not made for.
    """
    _refuse(module, attention_mask, others)
    cache = plan.cache[int(module.layer_idx)]  # type: ignore[arg-type]
    if not key.shape[1::2] == value.shape[1::2] == cache.shape[2:]:
        raise UnsupportedAttention("its layers differ in the number or size of key-value heads")
    num_written = len(plan.written)
    both = torch.stack((key[0].transpose(0, 1), value[0].transpose(0, 1)), 1)
    cache.index_copy_(0, plan.written, both[:num_written])  # [rows, 2, key-value heads, head size]
    queries = query[0].transpose(0, 1)  # [rows, heads, head size]
    answers = [
        _attend_call(call, queries, cache, scaling, sliding_window, softcap) for call in plan.calls
    ]
    packed = answers[0] if len(answers) == 1 else torch.cat(answers)
    return _reordered(packed, plan.places)[None], None


def _attend_call(
    call: Call,
    queries: Tensor,
    cache: Tensor,
    scaling: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Attend for one call's tiles; returns ``[tiles * queries, heads, head size]``."""
    num_tiles, num_queries, num_keys = call.shape
    kv_heads, size = cache.shape[2:]
    groups = queries.shape[1] // kv_heads
    # The query heads of a key-value head are folded into its rows: no key is repeated.
    folded = _reordered(queries, call.rows)
    folded = folded.reshape(num_tiles, num_queries, kv_heads, groups, size).transpose(1, 2)
    folded = folded.reshape(num_tiles, kv_heads, num_queries * groups, size)
    gathered = cache.index_select(0, call.keys).view(num_tiles, num_keys, 2, kv_heads, size)
    key, value = gathered.permute(2, 0, 3, 1, 4)  # each [tiles, key-value heads, keys, head size]
    mask = call.mask(window, groups, queries.dtype)
    attended = _scores_to_values(folded, key, value, mask, scaling, softcap)
    unfolded = attended.view(num_tiles, kv_heads, num_queries, groups, size).transpose(1, 2)
    return unfolded.reshape(num_tiles * num_queries, kv_heads * groups, size)


def _reordered(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else rows.index_select(0, order)


def _scores_to_values(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    if softcap is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    scores = torch.tanh(query @ key.transpose(-1, -2) * (scaling / softcap)) * softcap + mask
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype) @ value


def _refuse(module: nn.Module, attention_mask: Tensor | None, others: dict[str, object]) -> None:
    asked = {
        name
        for name, value in others.items()
        if value is not None and name not in _HARMLESS
        if name not in _NEUTRAL or value != _NEUTRAL[name]
    }
    if attention_mask is not None:
        asked.add("attention_mask")
    if asked:
        raise UnsupportedAttention(f"its attention asks for {', '.join(sorted(asked))}")
    if not getattr(module, "is_causal", True):
        raise UnsupportedAttention("its attention looks at later tokens too")


AttentionInterface.register(NAME, attend)
