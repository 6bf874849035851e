"""A random model on disk that loads in an instant: the processes around it are what is tested."""

from pathlib import Path

import torch
from fakes import byte_tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from decoding.options import LoadOptions

CONTEXT = 32_768  # an answer that fills it takes longer than any test
OPTIONS = LoadOptions(dtype="fp32", threads=1, cache_tokens=CONTEXT, self_check=False)


def save_tiny_model(directory: Path) -> Path:
    """Two layers of 64, over the tokenizer of bytes."""
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(1)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
