"""Linear layers on a CPU, their weights laid out once for its matrix unit.

``nn.Linear`` hands oneDNN a plain weight, which it rearranges in every call, and whose products sum
in another order for few rows than for many. The layout chosen here is a third faster for one token
and gives a row the same bits beside any number of others, up to a number of rows that depends on
the shape: more rows than that are computed in chunks.
"""

from collections.abc import Iterator, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

_PACKABLE = (torch.bfloat16, torch.float32)
_WIDE = 16_384
_SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class PackedLinear(nn.Module):
    """The maps of one or more ``nn.Linear`` of equal input, their outputs side by side.

    A product has at most ``most_rows`` rows.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.most_rows = 128
        self.in_features = linears[0].in_features
        self.out_features = sum(linear.out_features for linear in linears)
        weight = torch.cat([linear.weight.detach() for linear in linears])
        # Laid out for one row: the layout whose sums do not depend on the number of rows.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        self.register_buffer("weight", packed, persistent=False)
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self.register_buffer("bias", torch.cat(biases) if biases else None, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``[..., rows, in_features]`` to ``[..., rows, out_features]``."""
        if rows.shape[-2] <= self.most_rows:
            return self._product(rows)
        return torch.cat([self._product(chunk) for chunk in rows.split(self.most_rows, -2)], -2)

    def _product(self, rows: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            rows, self.weight, self.bias, "none", [], ""
        )
        return output


class FusedLinears:
    """Computes all parts when one is asked for and keeps them until each has been fetched.

    NOTE: the parts must be asked for the same tensor object in turn, as modelling code does with
    projections of one input; another tensor simply computes anew.
    """

    def __init__(self, packed: PackedLinear, sizes: Sequence[int]) -> None:
        self._packed = packed
        self._sizes = list(sizes)
        self._rows: Tensor | None = None
        self._parts: dict[int, Tensor] = {}

    def part(self, index: int, rows: Tensor) -> Tensor:
        """What linear layer ``index`` makes of ``rows``."""
        if rows is not self._rows or index not in self._parts:
            self._rows = rows
            self._parts = dict(
                enumerate(torch.split_with_sizes(self._packed(rows), self._sizes, -1))
            )
        part = self._parts.pop(index)
        if not self._parts:
            self._rows = None
        return part


class FusedPart(nn.Module):
    """Stands where one of the fused linear layers stood."""

    def __init__(self, fused: FusedLinears, index: int) -> None:
        super().__init__()
        self._fused = fused
        self._index = index

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``[..., in_features]`` to ``[..., out_features]`` of this part."""
        return self._fused.part(self._index, rows)


def pack_linear_layers(model: nn.Module) -> list[PackedLinear]:
    """Replace every plain linear layer of a CPU model, where this build of torch can.

    Returns the new layers.
    """
    packed: list[PackedLinear] = []
    if not torch.backends.mkldnn.is_available():
        return packed
    for parent in list(model.modules()):
        linears = {name: m for name, m in parent.named_children() if _is_packable(m)}
        groups = [{n: linears.pop(n) for n in names if n in linears} for names in _SAME_INPUT]
        for group in [*groups, *({name: linear} for name, linear in linears.items())]:
            packed += _replace(parent, group)
    return packed


def _replace(parent: nn.Module, linears: dict[str, nn.Linear]) -> list[PackedLinear]:
    """Replace layers of one input by one product if they can share it, else each by its own."""
    shared = {(linear.in_features, linear.bias is None) for linear in linears.values()}
    if len(shared) > 1:
        return [p for name, each in linears.items() for p in _replace(parent, {name: each})]
    if not linears:
        return []
    packed = PackedLinear(list(linears.values()))
    if len(linears) == 1:
        setattr(parent, next(iter(linears)), packed)
        return [packed]
    fused = FusedLinears(packed, [linear.out_features for linear in linears.values()])
    for index, name in enumerate(linears):
        setattr(parent, name, FusedPart(fused, index))
    return [packed]


def _is_packable(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and module.weight.dtype in _PACKABLE


def product_holds(layer: PackedLinear, step: int, most: int, dtype: torch.dtype) -> bool:
    """Whether a row's bits are the same beside any number of rows, up to ``most``.

    Row counts are multiples of ``step``. Leaves the layer with ``most`` as its limit.
    """
    layer.most_rows = most
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(most, layer.in_features, generator=generator).to(dtype)
    whole = layer(rows)
    return all(torch.equal(layer(rows[:size]), whole[:size]) for size in _sizes(layer, step, most))


def _sizes(layer: PackedLinear, step: int, most: int) -> Iterator[int]:
    """The row counts to try: all small ones, some large ones; few for an output layer, which
    costs as much as many others together."""
    few = layer.out_features > _WIDE
    yield from range(step, min(most, 160), step * (17 if few else 1))
    yield from range(160, most, step * (97 if few else 7))
