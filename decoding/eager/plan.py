"""Which rows attend to which keys in one forward: the plan every layer's attention follows.

A forward packs rows of many sequences. They are cut into *tiles* (rows of one sequence on one path
of its draft tree), and tiles of equal shape are grouped into few attention calls. A tile lists its
keys in position order, so a row sees exactly the keys up to its own position and one causal mask by
position serves chains and trees alike; branches need no special masks or positions.

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
from torch import Tensor

from decoding.segment import Indices, Segment

_NULL_SLOT = 0


class Shapes(NamedTuple):
    """The shapes of a forward. The defaults keep clear of everything seen to change a row's bits:
    one-row products, attention blocks of other sizes, short last blocks."""

    rows: int = 2  # the rows of a forward are padded to a multiple of this
    tile: int = 32  # positions in a tile; a power of two
    keys: int = 64  # the keys of a tile are padded to a multiple of this; a multiple of ``tile``
    folded: int = 191  # most query rows of one key-value head in a call
    avoided_tails: frozenset[int] = frozenset({1, 2, 3})  # of folded rows modulo 32: padded further


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
