"""One model on one device with its paged cache: run a packed forward, hand back logits.

It knows tokens, positions and slots, but nothing of requests, strategies or sampling. How a forward
is computed is a :class:`Computation`'s business: there is one by transformers (``decoding/eager``)
and one by kernels of our own (``decoding/native``).
"""

import math
import mmap
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoding.architecture import CacheGeometry
from decoding.segment import Segment

BLOCK_SIZE = 16


class Computation(Protocol):
    """A model and a way to compute it."""

    geometry: CacheGeometry
    device: torch.device
    dtype: torch.dtype  # of the cache
    vocabulary_size: int

    @property
    def format(self) -> str:
        """The numbers products are made of: "int8", "bfloat16"."""

    def logits(self, segments: Sequence[Segment], cache: Tensor) -> Tensor:
        """Compute all segments in one forward, writing their keys and values to the cache.

        Returns the logits ``[rows, vocabulary]`` after each segment's tokens from its
        ``logits_from`` on, segment after segment.
        """

    def likeliest(self, logits: Tensor, count: int) -> NDArray[np.int32]:
        """The tokens of each row's largest logits, largest first, ``[rows, count]``.

        ``count`` is at most 64.
        """

    def arrangements(self) -> Iterator[None]:
        """Take on one way after the other in which a row's bits may be the same in every forward,
        fastest first; the last one taken on stays."""


class Runner:
    """A computation with its cache. ``context_length`` 0 is the model's own.

    Raises:
        ValueError: ``context_length`` is more than the model can do.
    """

    def __init__(
        self, computation: Computation, num_blocks: int, *, context_length: int = 0
    ) -> None:
        most = computation.geometry.context_length
        if context_length > most:
            raise ValueError(
                f"a context of {context_length} tokens is too long for this model, which can be"
                f" served with at most {most}"
            )
        self.computation = computation
        self.num_blocks = num_blocks
        self.context_length: int = context_length or most
        self.vocabulary_size = computation.vocabulary_size
        shape = computation.geometry.shape(num_blocks * BLOCK_SIZE)
        self.cache = _zeros(shape, computation.dtype, computation.device)

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
        logits = self.computation.logits(segments, self.cache)
        if self.cache.is_cuda:
            torch.cuda.synchronize(self.cache.device)  # who times a forward times all of it
        return logits

    @torch.inference_mode()
    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy the keys and values of some slots to others, in every layer."""
        index = torch.tensor([source, target], device=self.cache.device)
        self.cache.index_copy_(1, index[1], self.cache.index_select(1, index[0]))


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, because masked keys are multiplied by zero and must be finite."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # Pages of a fresh map are zero and take no memory before they are written.
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(*shape)
