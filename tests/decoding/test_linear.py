"""Packed linear layers compute what the plain ones do."""

import pytest
import torch
from torch import Tensor, nn

from decoding.eager.linear import FusedPart, PackedLinear, pack_linear_layers

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN"
)


def linear(width: int, out_width: int, *, bias: bool = False) -> nn.Linear:
    torch.manual_seed(out_width)
    return nn.Linear(width, out_width, bias=bias).requires_grad_(False)


class Block(nn.Module):
    """Projections as transformers names them."""

    def __init__(self, *, key_bias: bool = False) -> None:
        super().__init__()
        self.q_proj = linear(16, 24)
        self.k_proj = linear(16, 8, bias=key_bias)
        self.v_proj = linear(16, 12)
        self.o_proj = linear(24, 16, bias=True)

    def forward(self, rows: Tensor) -> Tensor:
        parts = [self.q_proj(rows), self.k_proj(rows), self.v_proj(rows)]
        return torch.cat([*parts, self.o_proj(parts[0])], -1)


def random_rows(count: int) -> Tensor:
    return torch.randn(1, count, 16, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("key_bias", [False, True])
def test_a_packed_model_computes_the_same(key_bias: bool) -> None:
    block, packed = Block(key_bias=key_bias), Block(key_bias=key_bias)
    packed.load_state_dict(block.state_dict())
    pack_linear_layers(packed)
    torch.testing.assert_close(packed(random_rows(5)), block(random_rows(5)))


def test_projections_of_one_input_become_one_product() -> None:
    products = pack_linear_layers(Block())
    assert sorted(product.out_features for product in products) == [16, 24 + 8 + 12]


def test_projections_that_differ_in_bias_stay_apart() -> None:
    """A missing bias would otherwise be dropped or invented."""
    products = pack_linear_layers(Block(key_bias=True))
    assert len(products) == 4


def test_a_new_input_is_computed_anew() -> None:
    """Parts kept from the last layer's input must not answer for another one."""
    block = Block()
    plain = block.k_proj
    pack_linear_layers(block)
    block.q_proj(random_rows(3))
    torch.testing.assert_close(block.k_proj(random_rows(4)), plain(random_rows(4)))


def test_a_part_may_be_asked_for_twice() -> None:
    block, rows = Block(), random_rows(3)
    pack_linear_layers(block)
    assert torch.equal(block.q_proj(rows), block.q_proj(rows))


def test_parts_are_forgotten_once_all_are_fetched() -> None:
    """Kept, they would hold memory, and an in-place change of the input would go unseen."""
    block, rows = Block(), random_rows(3)
    pack_linear_layers(block)
    first = block(rows)
    rows.mul_(2)
    torch.testing.assert_close(block(rows)[..., :44], 2 * first[..., :44])


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_chunks_are_joined_in_order(count: int) -> None:
    plain = linear(16, 24, bias=True)
    packed = PackedLinear([plain])
    packed.most_rows = 8
    torch.testing.assert_close(packed(random_rows(count)), plain(random_rows(count)))


class Scaled(nn.Linear):
    """A layer with a forward of its own."""

    def forward(self, rows: Tensor) -> Tensor:
        return 2 * super().forward(rows)


@pytest.mark.parametrize("special", [Scaled(16, 8), nn.Linear(16, 8, dtype=torch.float64)])
def test_other_layers_are_left_alone(special: nn.Module) -> None:
    model = nn.ModuleDict({"special": special, "plain": linear(16, 8)})
    assert len(pack_linear_layers(model)) == 1
    assert model["special"] is special


def test_fused_layers_know_nothing_of_their_weights() -> None:
    """A copy beside the packed weights would take the memory twice."""
    block = Block()
    pack_linear_layers(block)
    assert isinstance(block.q_proj, FusedPart)
    assert not list(block.parameters())
