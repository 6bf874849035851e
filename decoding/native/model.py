"""From a model as transformers loads it to a decoder of the kernels."""

import weakref
from ctypes import byref

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from decoding.architecture import CacheGeometry
from decoding.native.library import LayerSource, NoKernels, Shape, library

FORMATS = {"int8": 0, "bf16": 1, "fp32": 2}
_FAMILIES = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
_LANES, _STEP = 16, 64
_NO_WINDOW = 2**30


class NotNative(ValueError):
    """The kernels do not compute this model; the message says what is in the way."""


class NativeModel:
    """A model's parameters, laid out for the kernels; the model itself is not needed any more.

    Raises:
        NotNative: it is not of a family the kernels know, or of a shape they do not take.
        NoKernels: there are none for this machine.
    """

    def __init__(self, model: PreTrainedModel, dtype: str, context_length: int) -> None:
        refuse(model)
        config = model.config
        self.library = library()
        self.vocabulary_size: int = config.vocab_size
        geometry = CacheGeometry.of(config)
        cosines, sines = _rotation(model, context_length)
        embedding = model.get_input_embeddings().weight
        attention = model.model.layers[0].self_attn
        shape = Shape(
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            vocabulary=config.vocab_size,
            layers=geometry.layers,
            heads=config.num_attention_heads,
            kv_heads=geometry.kv_heads,
            head_size=geometry.head_size,
            rotary=2 * cosines.shape[1],
            positions=context_length,
            threads=torch.get_num_threads(),
            epsilon=config.rms_norm_eps,
            scaling=attention.scaling,
        )
        half = embedding.dtype == torch.bfloat16
        self.handle = self.library.stride_new(byref(shape), FORMATS[dtype], int(half))
        if not self.handle:
            raise MemoryError("not enough memory for the weights")
        weakref.finalize(self, self.library.stride_free, self.handle)
        for layer in model.model.layers:
            _check(self.library.stride_add_layer(self.handle, byref(_source(layer))))
        head = model.get_output_embeddings().weight
        _check(
            self.library.stride_set_ends(
                self.handle,
                embedding.data_ptr(),
                model.model.norm.weight.data_ptr(),
                head.data_ptr(),
                cosines.data_ptr(),
                sines.data_ptr(),
            )
        )
        self._kept = (embedding, cosines, sines)  # the kernels read them where they are


def refuse(model: PreTrainedModel) -> None:
    """Check that the kernels compute what the model's own code computes.

    Raises:
        NotNative: they do not.
    """
    name = type(model).__name__
    config = model.config
    geometry = CacheGeometry.of(config)
    if name not in _FAMILIES:
        raise NotNative(f"the kernels do not know {name}")
    if model.device.type != "cpu" or model.dtype not in (torch.bfloat16, torch.float32):
        raise NotNative(f"the kernels do not take {model.dtype} on {model.device}")
    if config.hidden_act != "silu":
        raise NotNative(f"the kernels do not know the activation {config.hidden_act}")
    widths = (config.hidden_size, config.intermediate_size, geometry.head_size * config.num_attention_heads)
    if any(width % _STEP for width in widths) or geometry.head_size % 32:
        raise NotNative("the kernels take widths that are multiples of 64")
    if geometry.groups > _LANES:
        raise NotNative(f"the kernels take at most {_LANES} query heads a key-value head")


@torch.inference_mode()
def _rotation(model: PreTrainedModel, context_length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position, ``[positions, rotary / 2]``, by the model's own code."""
    positions = torch.arange(context_length)[None]
    cosines, sines = model.model.rotary_emb(torch.zeros(1, dtype=torch.float32), positions)
    half = cosines.shape[-1] // 2
    if not torch.equal(cosines[..., :half], cosines[..., half:]):
        raise NotNative("the kernels rotate halves of a head against each other")
    return cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()


def _source(layer: nn.Module) -> LayerSource:
    attention, mlp = layer.self_attn, layer.mlp
    parameters = {
        "norm": layer.input_layernorm.weight,
        "mlp_norm": layer.post_attention_layernorm.weight,
        "q_norm": _weight(attention, "q_norm"),
        "k_norm": _weight(attention, "k_norm"),
    }
    for parent, suffix, names in ((attention, "_proj", "qkvo"), (mlp, "_proj", ("gate", "up", "down"))):
        for name in names:
            linear = getattr(parent, name + suffix)
            parameters[name] = linear.weight
            parameters[f"{name}_bias"] = linear.bias
    window = getattr(attention, "sliding_window", None) or _NO_WINDOW
    addresses = {name: _address(value) for name, value in parameters.items()}
    return LayerSource(**addresses, window=window)


def _weight(parent: nn.Module, name: str) -> Tensor | None:
    module = getattr(parent, name, None)
    return None if module is None else module.weight


def _address(parameter: Tensor | None) -> int | None:
    if parameter is None:
        return None
    if not parameter.is_contiguous():
        raise NotNative("the kernels take contiguous parameters")
    return parameter.data_ptr()


def _check(code: int) -> None:
    if code:
        raise MemoryError("not enough memory for the weights")
