"""A model's parameters, laid out for the kernels."""

import weakref
from ctypes import CDLL, byref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from decoding.architecture import CacheGeometry
from decoding.native.library import PHASES, Batch, LayerSource, NoKernels, Shape
from decoding.options import Format

_FORMATS = ("int8", "bf16", "fp32")  # in the order of library.cpp
_FAMILIES = frozenset(
    ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
)
_MOST_GROUPS = 16  # a row's query heads of one key-value head share a vector
_WIDTH, _HEAD_WIDTH = 64, 32


class NativeDecoder:
    """A Llama-like model in the kernels' own layout and number format.

    The parameters are copied, and those of the model's layers given up one after the other.

    Raises:
        NoKernels: they do not compute this model.
        MemoryError: the weights do not fit.
    """

    def __init__(self, model: PreTrainedModel, format: Format, library: CDLL) -> None:
        refuse_foreign(model)
        self._library = library
        self.vocabulary_size: int = model.config.vocab_size
        # A copy, or it would keep all of the file it comes from in memory.
        embedding = model.get_input_embeddings().weight.detach().clone()
        rotation = _rotation(model)
        self._kept = (embedding, *rotation)
        self.shape = _shape(model, rotary=2 * rotation[0].shape[1])
        half = int(embedding.dtype == torch.bfloat16)
        self._handle = self._library.stride_new(byref(self.shape), _FORMATS.index(format), half)
        if not self._handle:
            raise MemoryError("not enough memory for the weights")
        weakref.finalize(self, self._library.stride_free, self._handle)
        for layer in model.model.layers:
            _check(self._library.stride_add_layer(self._handle, byref(_source(layer))))
            layer.to("meta")  # gone before the next one is copied: never two models in memory
        norm, head = model.model.norm.weight, model.get_output_embeddings().weight
        ends = (embedding, norm, head, *rotation)
        _check(self._library.stride_set_ends(self._handle, *map(_address, ends)))

    def forward(self, batch: Batch, logits: Tensor) -> None:
        """Compute a batch; ``logits`` is ``[wanted, vocabulary]`` in float32.

        Raises:
            MemoryError: there is no room to compute it.
        """
        _check(self._library.stride_forward(self._handle, byref(batch), logits.data_ptr()))

    def likeliest(self, logits: Tensor, tokens: NDArray[np.int32]) -> None:
        """The largest logits of each row, largest first; ``tokens`` is ``[rows, up to 64]``."""
        rows, count = tokens.shape
        found = tokens.ctypes.data
        self._library.stride_likeliest(logits.data_ptr(), rows, logits.shape[1], count, found)

    def seconds(self) -> dict[str, float]:
        """Time spent in each phase, by all forwards so far."""
        return dict(zip(PHASES, self._library.stride_seconds(self._handle).contents, strict=True))


def refuse_foreign(model: PreTrainedModel) -> None:
    """Check that the kernels compute what the model's own code computes.

    Raises:
        NoKernels: they do not.
    """
    config, name = model.config, type(model).__name__
    if name not in _FAMILIES:
        raise NoKernels(f"Stride has none for {name}")
    if model.device.type != "cpu" or model.dtype not in (torch.bfloat16, torch.float32):
        raise NoKernels(f"Stride has none for {model.dtype} on {model.device.type}")
    if config.hidden_act != "silu":
        raise NoKernels(f"Stride has none for the activation {config.hidden_act}")
    if getattr(config, "sliding_window", None) is not None:
        raise NoKernels("Stride has none for attention in a sliding window")
    geometry = CacheGeometry.of(config)
    widths = (config.hidden_size, config.intermediate_size)
    if any(width % _WIDTH for width in widths) or geometry.head_size % _HEAD_WIDTH:
        raise NoKernels(f"Stride has none for widths that are no multiple of {_WIDTH}")
    if config.num_attention_heads * geometry.head_size % _WIDTH or geometry.groups > _MOST_GROUPS:
        raise NoKernels("Stride has none for this number of attention heads")


def _shape(model: PreTrainedModel, rotary: int) -> Shape:
    config, geometry = model.config, CacheGeometry.of(model.config)
    return Shape(
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        layers=geometry.layers,
        heads=config.num_attention_heads,
        kv_heads=geometry.kv_heads,
        head_size=geometry.head_size,
        rotary=rotary,
        threads=torch.get_num_threads(),
        epsilon=config.rms_norm_eps,
        scaling=model.model.layers[0].self_attn.scaling,
    )


@torch.inference_mode()
def _rotation(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position, ``[positions, rotary / 2]``, by the model's own code."""
    positions = torch.arange(CacheGeometry.of(model.config).context_length)[None]
    cosines, sines = model.model.rotary_emb(torch.zeros(1), positions)
    half = cosines.shape[-1] // 2
    if not torch.equal(cosines[..., :half], cosines[..., half:]):
        raise NoKernels("Stride has none for its rotary embedding")
    return cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()


def _source(layer: nn.Module) -> LayerSource:
    attention, mlp = layer.self_attn, layer.mlp
    linears = {name: getattr(attention, f"{name}_proj") for name in "qkvo"}
    linears |= {name: getattr(mlp, f"{name}_proj") for name in ("gate", "up", "down")}
    parameters = {name: linear.weight for name, linear in linears.items()}
    parameters |= {f"{name}_bias": linear.bias for name, linear in linears.items()}
    norms = {name: getattr(attention, name, None) for name in ("q_norm", "k_norm")}
    norms |= {"norm": layer.input_layernorm, "mlp_norm": layer.post_attention_layernorm}
    parameters |= {name: norm.weight for name, norm in norms.items() if norm is not None}
    return LayerSource(**{name: _address(value) for name, value in parameters.items()})


def _address(parameter: Tensor | None) -> int | None:
    if parameter is None:
        return None
    if not parameter.is_contiguous():
        raise NoKernels("Stride has none for parameters that do not lie together")
    return parameter.data_ptr()


def _check(code: int) -> None:
    if code:
        raise MemoryError("not enough memory to compute this")
