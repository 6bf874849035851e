"""Attention of packed rows over the paged cache, registered with transformers as ``stride``.

A forward packs rows of many sequences. ``plan`` cuts them into *tiles* (rows of one sequence on one
path of its draft tree) and groups tiles of equal shape into few attention calls. Every tile lists
its keys in position order, so a row sees exactly the keys up to its own position and one causal
mask by position serves chains and trees alike; branches need no special masks or positions.

The shapes are *canonical*, so that a row's bits do not depend on what is computed beside it: a tile
never crosses a multiple of ``Shapes.tile`` positions, its keys are padded to a multiple of
``Shapes.keys``, and its queries to a row count that takes no special path in the kernel.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "stride"
_NULL_SLOT = 0
# Arguments that may be ignored: always, because they steer other parts of a model, or at one value.
_HARMLESS = {"position_ids", "use_cache", "output_router_logits"}
_NEUTRAL = {"dropout": 0.0, "is_causal": True, "output_attentions": False}

Indices = NDArray[np.int64]


class UnsupportedAttention(ValueError):
    """The model asks its attention for something this implementation does not do."""


class Shapes(NamedTuple):
    """The shapes of a forward. The defaults keep clear of everything seen to change a row's bits:
    one-row products, attention blocks of other sizes, short last blocks."""

    rows: int = 2  # the rows of a forward are padded to a multiple of this
    tile: int = 32  # positions in a tile; a power of two
    keys: int = 64  # the keys of a tile are padded to a multiple of this; a multiple of ``tile``
    folded: int = 191  # most query rows of one key-value head in a call
    avoided_tails: frozenset[int] = frozenset({1, 2, 3})  # of folded rows modulo 32: padded further


class Segment(NamedTuple):
    """One sequence's part of a forward: a tree of tokens that continues its cached ones.

    ``parents[i] < i`` is the local index of the token before token ``i``, −1 the last cached token.
    ``slots`` holds the cache slots of positions ``0 .. start + len(tokens) − 1``: the first
    ``start`` are filled, token ``i`` is written to ``slots[start + i]`` (its place in the list, not
    its position in the tree). Logits are wanted from token ``logits_from`` on.
    """

    tokens: Sequence[int]
    parents: Sequence[int]
    start: int
    slots: Indices
    logits_from: int


class Tile(NamedTuple):
    """Rows on one path: consecutive positions from ``position`` and the slots of their keys."""

    rows: Indices  # packed rows, [queries]
    position: int  # of the first row
    keys: Indices  # slots of positions 0 .. position + queries - 1


@dataclass(frozen=True)
class Call:
    """Tiles of equal padded shape, answered by one attention call."""

    rows: Tensor | None  # packed rows, [tiles * queries]; None: every row once, in order
    positions: Tensor  # of those rows, [tiles, queries]
    keys: Tensor  # slots, [tiles * keys]
    shape: tuple[int, int, int]  # tiles, queries, keys
    masks: dict[tuple[int | None, int], Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, groups: int, dtype: torch.dtype) -> Tensor:
        """The additive mask ``[tiles, 1, queries * groups, keys]``, made once a step."""
        if (window, groups) not in self.masks:
            self.masks[window, groups] = self._mask(window, groups, dtype)
        return self.masks[window, groups]

    def _mask(self, window: int | None, groups: int, dtype: torch.dtype) -> Tensor:
        key = torch.arange(self.shape[2], device=self.positions.device)
        query = self.positions[:, :, None]
        hidden = key > query
        if window is not None:
            hidden |= key <= query - window
        mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
        return mask.masked_fill_(hidden, -math.inf).repeat_interleave(groups, 1)[:, None]


@dataclass(frozen=True)
class Plan:
    """All attention of one forward, the same in every layer.

    ``cache`` is ``[layers, slots, 2, key-value heads, head size]``, keys before values.
    """

    cache: Tensor
    written: Tensor  # the slot of each real row, [rows without padding]
    calls: list[Call]
    places: (
        Tensor | None
    )  # each packed row's place in the concatenated calls, [rows]; None: its own


# --- planning, once a forward ----------------------------------------------------------------


def make_plan(
    segments: Sequence[Segment], cache: Tensor, shapes: Shapes, groups: int, num_rows: int
) -> Plan:
    """Plan the attention of ``segments`` packed in order and padded to ``num_rows`` rows.

    ``groups`` is how many query heads share a key-value head.
    """
    tile = _tile_limit(shapes, groups)
    grouped: dict[tuple[int, int], list[Tile]] = {}
    for piece in _tiles(segments, tile):
        queries = _padded_queries(len(piece.rows), groups, shapes.avoided_tails)
        keys = _round_up(piece.position + len(piece.rows), shapes.keys)
        grouped.setdefault((queries, keys), []).append(piece)
    calls = [_call(tiles, *shape, num_rows, cache.device) for shape, tiles in grouped.items()]
    num_answers = sum(call.shape[0] * call.shape[1] for call in calls)
    written = np.concatenate([s.slots[s.start : s.start + len(s.tokens)] for s in segments])
    return Plan(
        cache=cache,
        written=torch.from_numpy(written).to(cache.device),
        calls=calls,
        places=_index(_places(grouped, num_rows), num_answers, cache.device),
    )


def _tiles(segments: Sequence[Segment], tile: int) -> Iterator[Tile]:
    first = 0
    for segment in segments:
        for path in _paths(segment.parents):
            yield from _path_tiles(segment, path, first, tile)
        first += len(segment.tokens)


class Path(NamedTuple):
    """A chain of a segment's tree, from the root side; the first nodes are only its ancestors."""

    nodes: list[int]
    num_ancestors: int


def _paths(parents: Sequence[int]) -> list[Path]:
    """Cut a tree into chains: a first child continues its parent's chain, others start one."""
    paths: list[Path] = []
    ending_at: dict[int, Path] = {}
    for node, parent in enumerate(parents):
        path = ending_at.pop(parent, None)
        if path is None:
            ancestors = _ancestors(parents, parent)
            path = Path(ancestors, len(ancestors))
            paths.append(path)
        path.nodes.append(node)
        ending_at[node] = path
    return paths


def _ancestors(parents: Sequence[int], node: int) -> list[int]:
    path: list[int] = []
    while node >= 0:
        path.append(node)
        node = parents[node]
    return path[::-1]


def _path_tiles(segment: Segment, path: Path, first: int, tile: int) -> Iterator[Tile]:
    nodes = np.array(path.nodes)
    keys = np.concatenate([segment.slots[: segment.start], segment.slots[segment.start + nodes]])
    position, end = segment.start + path.num_ancestors, segment.start + len(nodes)
    while position < end:
        stop = min(end, (position // tile + 1) * tile)
        rows = first + nodes[position - segment.start : stop - segment.start]
        yield Tile(rows, position, keys[:stop])
        position = stop


def _tile_limit(shapes: Shapes, groups: int) -> int:
    tile = shapes.tile
    while tile > 1 and tile * groups > shapes.folded:
        tile //= 2
    return tile


def _padded_queries(queries: int, groups: int, tails: frozenset[int]) -> int:
    """The next power of two whose folded rows do not leave the kernel a last block to avoid."""
    padded = 1
    while padded < queries or (padded * groups) % 32 in tails:
        padded *= 2
    return padded


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _call(tiles: list[Tile], queries: int, keys: int, num_rows: int, device: torch.device) -> Call:
    rows = np.stack([_padded(tile.rows, queries, tile.rows[-1]) for tile in tiles])
    slots = np.stack([_padded(tile.keys, keys, _NULL_SLOT) for tile in tiles])
    last = np.array([[tile.position + len(tile.rows) - 1] for tile in tiles])
    first = np.array([[tile.position] for tile in tiles])
    positions = np.minimum(first + np.arange(queries), last)
    return Call(
        rows=_index(rows.ravel(), num_rows, device),
        positions=torch.from_numpy(positions).to(device),
        keys=torch.from_numpy(slots.ravel()).to(device),
        shape=(len(tiles), queries, keys),
    )


def _index(order: Indices, num_source: int, device: torch.device) -> Tensor | None:
    """The order as a tensor, or None if it takes every source row once, in order."""
    if np.array_equal(order, np.arange(num_source)):
        return None
    return torch.from_numpy(order).to(device)


def _padded(values: Indices, length: int, filler: int) -> Indices:
    return np.pad(values, (0, length - len(values)), constant_values=filler)


def _places(grouped: dict[tuple[int, int], list[Tile]], num_rows: int) -> Indices:
    places = np.zeros(num_rows, np.int64)  # padding rows get the attention of some other row
    offset = 0
    for (queries, _), tiles in grouped.items():
        for tile in tiles:
            places[tile.rows] = offset + np.arange(len(tile.rows))
            offset += queries
    return places


# --- computing, once a layer -----------------------------------------------------------------


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
