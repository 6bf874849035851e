"""What a model's configuration tells: whether it can be served exactly, and its cache's shape.

What a configuration cannot tell, ``decoding.probe`` tries.
"""

from typing import NamedTuple

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig

_LAYER_TYPES = {"full_attention", "sliding_attention"}
_CHANGING_ROTATIONS = {"dynamic", "longrope"}


class UnsupportedModel(ValueError):
    """The model cannot be served exactly; the message is one sentence for the user."""


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


def refuse_unsupported(config: PretrainedConfig) -> None:
    """Check what a configuration tells about exactness.

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
