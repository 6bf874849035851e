"""Tiny random models of every family that is served, made so that mistakes show.

Logits are far apart, windows are shorter than any text, norms and biases are not neutral.
"""

import copy
from collections.abc import Callable

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

VOCABULARY = 101
WINDOW = 12
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GROUPED = {**_COMMON, "num_key_value_heads": 2}
_OWN_HEAD_SIZE = {**GROUPED, "head_dim": 16}
_WINDOWED = {"sliding_window": WINDOW}
_LATE_WINDOW = {**_WINDOWED, "use_sliding_window": True, "max_window_layers": 1}
_ALTERNATING = {
    **_OWN_HEAD_SIZE,
    **_WINDOWED,
    "query_pre_attn_scalar": 24,
    "tie_word_embeddings": False,  # tied, it would only ever repeat a token
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}


def _gemma3_with_images() -> PretrainedConfig:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    }
    return Gemma3Config(
        text_config=dict(_ALTERNATING),
        vision_config=vision,
        image_token_id=VOCABULARY - 1,
        tie_word_embeddings=False,
    )


def longrope() -> PretrainedConfig:
    """A Phi-3 whose rotary embedding changes past position 128."""
    factors = {"short_factor": [1.0] * 6, "long_factor": [4.0] * 6}
    return Phi3Config(
        **GROUPED,
        original_max_position_embeddings=128,
        rope_parameters={"rope_type": "longrope", "rope_theta": 10_000.0, **factors},
    )


FAMILIES: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_OWN_HEAD_SIZE),
    "qwen2": lambda: Qwen2Config(**GROUPED),
    "qwen2-window": lambda: Qwen2Config(**GROUPED, **_LATE_WINDOW),
    "qwen3": lambda: Qwen3Config(**_OWN_HEAD_SIZE),
    "mistral": lambda: MistralConfig(**_OWN_HEAD_SIZE, **_WINDOWED),
    "gemma2": lambda: Gemma2Config(
        **_ALTERNATING, attn_logit_softcapping=3.0, final_logit_softcapping=5.0
    ),
    "gemma3": lambda: Gemma3TextConfig(**_ALTERNATING),
    "gemma3-images": _gemma3_with_images,
    "phi3": lambda: Phi3Config(**GROUPED),
    "phi3-window": lambda: Phi3Config(**GROUPED, **_WINDOWED),
    "phi3-longrope": longrope,
    "gpt-neox": lambda: GPTNeoXConfig(**_COMMON),
    "olmo2": lambda: Olmo2Config(**{**GROUPED, "hidden_size": 64}),
    "mixtral": lambda: MixtralConfig(**_OWN_HEAD_SIZE, **_WINDOWED, num_local_experts=4),
    "qwen3-moe": lambda: Qwen3MoeConfig(
        **_OWN_HEAD_SIZE, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32
    ),
}


def tiny_model(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model, the same in every run."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases, which start out as ones and zeros
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(dtype)
    if dtype == torch.float64 and model._can_set_experts_implementation():
        model.set_experts_implementation("eager")  # the default has no kernel for it
    return model


def reference(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with transformers' own plainest attention, to be made before a Runner has it."""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    if plain._can_set_experts_implementation():
        plain.set_experts_implementation("eager")
    return plain
