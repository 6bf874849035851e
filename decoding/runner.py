"""One model on one device: run one packed forward, hand back logits.

The only file that builds tensors for a forward. It knows tokens, positions and slots, but nothing
of requests, strategies or sampling.
"""

import math
import mmap
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from decoding.architecture import CacheGeometry, UnsupportedModel, refuse_unsupported
from decoding.attention import NAME
from decoding.linear import PackedLinear, pack_linear_layers
from decoding.plan import Segment, Shapes, make_plan

BLOCK_SIZE = 16


class Runner:
    """A model with its paged cache.

    ``model`` is a causal language model as transformers loads it, on its device; it is given our
    attention and, on a CPU, our linear layers. ``context_length`` 0 is the model's own.

    Raises:
        UnsupportedModel: the architecture cannot be served exactly.
        ValueError: ``context_length`` is more than the model can do.
    """

    def __init__(self, model: PreTrainedModel, num_blocks: int, *, context_length: int = 0) -> None:
        refuse_unsupported(model.config)
        self.num_parameters: int = model.num_parameters()
        self.products: list[PackedLinear] = []
        self.model = self._prepared(model)
        self.shapes = Shapes()
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.num_blocks = num_blocks
        geometry = CacheGeometry.of(model.config)
        self._groups = geometry.groups
        if context_length > geometry.context_length:
            raise ValueError(
                f"a context of {context_length} tokens is too long for this model, which can be"
                f" served with at most {geometry.context_length}"
            )
        self.context_length: int = context_length or geometry.context_length
        self.vocabulary_size: int = model.get_output_embeddings().out_features
        self.cache = _zeros(geometry.shape(num_blocks * BLOCK_SIZE), self.dtype, self.device)

    @property
    def cache_bytes(self) -> int:
        """Size of the cache."""
        return self.cache.numel() * self.cache.element_size()

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> Tensor:
        """Compute all segments in one forward.

        Returns the logits ``[rows, vocabulary]`` after each segment's tokens from its
        ``logits_from`` on, segment after segment.
        """
        tokens = np.concatenate([np.asarray(s.tokens, np.int64) for s in segments])
        positions = np.concatenate([_positions(s) for s in segments])
        num_rows = self._padded(len(tokens))
        wanted = _wanted_rows(segments)
        unwanted = self._padded(len(wanted)) - len(wanted)
        kept = np.pad(wanted, (0, unwanted), constant_values=len(tokens) - 1)
        plan = make_plan(segments, self.cache, self.shapes, self._groups, num_rows)
        output = self.model(
            input_ids=self._row(tokens, num_rows),
            position_ids=self._row(positions, num_rows),
            use_cache=False,
            logits_to_keep=torch.from_numpy(kept).to(self.device),
            plan=plan,
        )
        logits: Tensor = output.logits[0, : len(wanted)]
        return logits

    @torch.inference_mode()
    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy the keys and values of some slots to others, in every layer."""
        index = torch.tensor([source, target], device=self.device)
        self.cache.index_copy_(1, index[1], self.cache.index_select(1, index[0]))

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


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, because masked keys are multiplied by zero and must be finite."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # Pages of a fresh map are zero and take no memory before they are written.
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(*shape)


def _positions(segment: Segment) -> np.ndarray:
    depth: list[int] = []
    for parent in segment.parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return segment.start + np.array(depth, np.int64)


def _wanted_rows(segments: Sequence[Segment]) -> np.ndarray:
    ends = np.cumsum([len(segment.tokens) for segment in segments])
    return np.concatenate(
        [
            np.arange(end - len(segment.tokens) + segment.logits_from, end)
            for segment, end in zip(segments, ends, strict=True)
        ]
    )
