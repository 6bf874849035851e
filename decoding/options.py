"""How to load a model and how much to take on: plain values, no torch."""

import os
from pathlib import Path
from typing import Literal

from msgspec import Struct

Format = Literal["int8", "bf16", "fp32"]
DTypeName = Literal["auto", "int8", "bf16", "fp32"]


class Limits(Struct, frozen=True, kw_only=True):
    """How much the engine takes on at once."""

    step_tokens: int = 512  # rows of one forward, drafts included
    running: int = 64  # sequences in one forward
    prefix_cache: bool = True


def default_cache_dir() -> Path:
    """The user's cache directory, as the XDG base directory specification says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stride"


class LoadOptions(Struct, frozen=True, kw_only=True):
    """How to load a model; "auto" and zero mean: choose well."""

    dtype: DTypeName = "auto"
    device: str = "auto"
    threads: int = 0
    cache_tokens: int = 0
    sharers: int = 1  # engines that share this machine's memory, this one included
    context_length: int = 0
    self_check: bool = True
    cache_dir: str = ""  # for kernels and successors; "" is the user's cache directory
    limits: Limits = Limits()
