"""One model on one device: load it, run one packed forward, hand back logits.

The only file that builds tensors for a forward. It knows tokens, positions and slots, but nothing
of requests, strategies or sampling.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from decoding.attention import NAME, Segment, Shapes, make_plan
from decoding.linear import PackedLinear, pack_linear_layers

BLOCK_SIZE = 16
_LAYER_TYPES = {"full_attention", "sliding_attention"}
_CHANGING_ROTATIONS = {"dynamic", "longrope"}


class UnsupportedModel(ValueError):
    """The model cannot be served exactly; the message is one sentence for the user."""


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
        # Zeros, not empty: masked keys are multiplied by zero and must be finite.
        self.cache = torch.zeros(
            geometry.shape(num_blocks * BLOCK_SIZE), dtype=self.dtype, device=self.device
        )

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


# --- loading ---------------------------------------------------------------------------------


class CacheGeometry(NamedTuple):
    """What a configuration says about the keys and values of a token."""

    layers: int
    kv_heads: int
    groups: int  # query heads that share a key-value head
    head_size: int
    context_length: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> "CacheGeometry":
        """Read it from a model's configuration."""
        text = config.get_text_config()
        heads = text.num_attention_heads
        kv_heads = getattr(text, "num_key_value_heads", None) or heads
        return cls(
            layers=text.num_hidden_layers,
            kv_heads=kv_heads,
            groups=heads // kv_heads,
            head_size=getattr(text, "head_dim", None) or text.hidden_size // heads,
            context_length=_rotation_limit(text),
        )

    def shape(self, slots: int) -> tuple[int, int, int, int, int]:
        """Of a cache with so many slots: layers, slots, keys and values, heads, head size."""
        return self.layers, slots, 2, self.kv_heads, self.head_size


def _rotation_limit(text: PretrainedConfig) -> int:
    """How many positions there are before the rotary embedding starts to change with the text.

    Past them, the longest text of a forward would decide the rotation of all others, and cached
    keys would have been rotated otherwise.
    """
    parameters = getattr(text, "rope_parameters", None) or {}
    limits: list[int] = [text.max_position_embeddings]
    for rope in (parameters, *(each for each in parameters.values() if isinstance(each, dict))):
        if rope.get("rope_type") in _CHANGING_ROTATIONS:
            limits.append(rope.get("original_max_position_embeddings", limits[0]))
    return min(limits)


def load_model(directory: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a model in Hugging Face layout.

    Raises:
        UnsupportedModel: the architecture cannot be served exactly.
    """
    refuse_unsupported(AutoConfig.from_pretrained(directory))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, use_safetensors=True)
    return model.to(device)


def refuse_unsupported(config: PretrainedConfig) -> None:
    """Check what a configuration tells about exactness; the rest is for ``decoding.probe``.

    Raises:
        UnsupportedModel: it has layers or attention this engine cannot serve exactly.
    """
    name = (config.architectures or [config.model_type])[0]
    if config.is_encoder_decoder:
        raise UnsupportedModel(f"{name} is an encoder-decoder; only decoder-only models are served")
    _refuse_class(name, config)
    text = config.get_text_config()
    if getattr(text, "is_heterogeneous", False):
        raise UnsupportedModel(f"{name} has layers of different shapes, the cache only one")
    kinds = getattr(text, "layer_types", None) or ()
    if unknown := set(kinds) - _LAYER_TYPES:
        raise UnsupportedModel(
            f"{name} has {', '.join(sorted(unknown))} layers; only full and sliding-window"
            " attention can be verified exactly"
        )


def _refuse_class(name: str, config: PretrainedConfig) -> None:
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModel(f"{name} is not one of transformers' causal language models")
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if model_class._is_stateful:
        raise UnsupportedModel(
            f"{name} keeps a recurrent state, which cannot be taken back when a draft is rejected"
        )
    if not model_class._supports_attention_backend:
        raise UnsupportedModel(
            f"{name} computes attention in its own code, which leaves no place for a paged cache"
        )
