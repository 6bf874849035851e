"""A forward by transformers' own modelling code: any family, any device.

The model is given our attention and, on a CPU, our linear layers; the rest is its own.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from decoding.architecture import CacheGeometry, UnsupportedModel, refuse_unsupported
from decoding.eager.attention import NAME
from decoding.eager.linear import PackedLinear, pack_linear_layers, product_holds
from decoding.eager.plan import Shapes, make_plan
from decoding.segment import Segment, wanted_rows

# Fastest first; after the defaults, coarser row counts for kernels that treat a remainder apart.
CANDIDATES = (
    Shapes(rows=1, tile=128, keys=128, folded=4096, avoided_tails=frozenset()),
    Shapes(),
    Shapes(rows=8),
    Shapes(rows=16),
    Shapes(rows=32),
)
_STRETCH = 64  # neighbouring logits that are looked at together
_PRODUCT_ROWS = (512, 128, 32)  # most rows of a product, the most first


class EagerComputation:
    """``model`` is a causal language model as transformers loads it, on its device.

    Raises:
        UnsupportedModel: the architecture cannot be served exactly.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        refuse_unsupported(model.config)
        self.geometry = CacheGeometry.of(model.config)
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.vocabulary_size: int = model.get_output_embeddings().out_features
        self.products: list[PackedLinear] = []
        self.shapes = Shapes()
        self.model = self._prepared(model)

    @property
    def format(self) -> str:
        """The numbers products are made of."""
        return str(self.dtype).removeprefix("torch.")

    def logits(self, segments: Sequence[Segment], cache: Tensor) -> Tensor:
        """Compute all segments; see :class:`decoding.runner.Computation`."""
        tokens = np.concatenate([np.asarray(s.tokens, np.int64) for s in segments])
        positions = np.concatenate([np.array(s.positions(), np.int64) for s in segments])
        num_rows = self._padded(len(tokens))
        wanted = wanted_rows(segments)
        unwanted = self._padded(len(wanted)) - len(wanted)
        kept = np.pad(wanted, (0, unwanted), constant_values=len(tokens) - 1)
        plan = make_plan(segments, cache, self.shapes, self.geometry.groups, num_rows)
        output = self.model(
            input_ids=self._row(tokens, num_rows),
            position_ids=self._row(positions, num_rows),
            use_cache=False,
            logits_to_keep=torch.from_numpy(kept).to(self.device),
            plan=plan,
        )
        logits: Tensor = output.logits[0, : len(wanted)]
        return logits

    def likeliest(self, logits: Tensor, count: int) -> NDArray[np.int32]:
        """The largest of each row; see :class:`decoding.runner.Computation`."""
        if logits.shape[-1] % _STRETCH:
            best = logits.topk(count).indices
        else:
            best = _likeliest_by_stretches(logits, count)
        tokens: NDArray[np.int32] = best.int().numpy(force=True)
        return tokens

    def arrangements(self) -> Iterator[None]:
        """Take on shapes under which a row's bits may hold, fastest first."""
        for self.shapes in CANDIDATES:
            if self._settle_products():
                yield

    @torch.inference_mode()
    def _settle_products(self) -> bool:
        """Give each matrix product the most rows within which their number changes no bit."""
        settled: dict[tuple[int, int], int | None] = {}
        for layer in self.products:
            kind = (layer.in_features, layer.out_features)
            if kind not in settled:
                fitting = (
                    most
                    for most in _PRODUCT_ROWS
                    if product_holds(layer, self.shapes.rows, most, self.dtype)
                )
                settled[kind] = next(fitting, None)
            if (most := settled[kind]) is None:
                return False
            layer.most_rows = most
        return True

    def _prepared(self, model: PreTrainedModel) -> PreTrainedModel:
        model.set_attn_implementation(NAME)
        if model.config.get_text_config()._attn_implementation != NAME:
            raise UnsupportedModel(f"{type(model).__name__} does not let its attention be replaced")
        if model.device.type == "cpu":
            self.products = pack_linear_layers(model)
        return model.eval().requires_grad_(False)

    def _padded(self, rows: int) -> int:
        return max(1, -(-rows // self.shapes.rows)) * self.shapes.rows

    def _row(self, values: np.ndarray, length: int) -> Tensor:
        padded = np.pad(values, (0, length - len(values)), mode="edge")
        return torch.from_numpy(padded)[None].to(self.device)


def _likeliest_by_stretches(logits: Tensor, count: int) -> Tensor:
    """As ``topk``, but three times as fast: the largest are in the stretches with the largest."""
    stretches = logits.unflatten(-1, (-1, _STRETCH))
    places = stretches.amax(-1).topk(count).indices
    candidates = stretches.gather(1, places[:, :, None].expand(-1, -1, _STRETCH)).flatten(1)
    best = candidates.topk(count).indices
    tokens: Tensor = places.gather(1, best // _STRETCH) * _STRETCH + best % _STRETCH
    return tokens
