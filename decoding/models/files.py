"""What resolving a model name yields: a directory, or a sentence saying why there is none."""

from dataclasses import dataclass
from pathlib import Path


class ModelError(Exception):
    """A model cannot be had. The message is one line for the user and says what to do."""


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk in the Hugging Face layout: config, safetensors weights, tokenizer."""

    directory: Path
    name: str  # as served
