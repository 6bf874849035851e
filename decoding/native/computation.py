"""A forward by kernels of our own: Llama-like models on a CPU, in one call."""

from collections.abc import Iterable, Iterator, Sequence
from ctypes import CDLL
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from decoding.architecture import CacheGeometry, refuse_unsupported
from decoding.native.decoder import NativeDecoder
from decoding.native.library import Batch
from decoding.options import Format
from decoding.segment import Indices, Segment, wanted_rows


class NativeComputation:
    """``model`` is used up: its parameters move into the kernels' layout.

    ``kernels`` is :func:`decoding.native.library.library`'s.

    Raises:
        NoKernels: they do not compute this model.
        UnsupportedModel: the architecture cannot be served exactly by anything.
        MemoryError: the weights do not fit.
    """

    def __init__(self, model: PreTrainedModel, format: Format, kernels: CDLL) -> None:
        refuse_unsupported(model.config)
        self.geometry = CacheGeometry.of(model.config)
        self.device: torch.device = model.device
        self.dtype = torch.float32 if format == "fp32" else torch.bfloat16
        self.format = {"int8": "int8", "bf16": "bfloat16", "fp32": "float32"}[format]
        self.decoder = NativeDecoder(model, format, kernels)
        self.vocabulary_size = self.decoder.vocabulary_size

    def logits(self, segments: Sequence[Segment], cache: Tensor) -> Tensor:
        """Compute all segments; see :class:`decoding.runner.Computation`."""
        arrays = {
            "tokens": _joined(s.tokens for s in segments),
            "positions": _joined(s.positions() for s in segments),
            "parents": _joined(s.parents for s in segments),
            "counts": np.array([len(s.tokens) for s in segments], np.int64),
            "starts": np.array([s.start for s in segments], np.int64),
            "slots": np.concatenate([s.slots[: s.start + len(s.tokens)] for s in segments]),
            "outputs": wanted_rows(segments),
        }
        logits = torch.empty(len(arrays["outputs"]), self.vocabulary_size)
        batch = Batch(
            rows=len(arrays["tokens"]),
            sequences=len(segments),
            wanted=len(logits),
            cache=cache.data_ptr(),
            cache_slots=cache.shape[1],
            **{name: array.ctypes.data for name, array in arrays.items()},
        )
        self.decoder.forward(batch, logits)
        return logits

    def likeliest(self, logits: Tensor, count: int) -> NDArray[np.int32]:
        """The largest of each row; see :class:`decoding.runner.Computation`."""
        tokens = np.empty((len(logits), count), np.int32)
        self.decoder.likeliest(logits.contiguous(), tokens)
        return tokens

    def arrangements(self) -> Iterator[None]:
        """There is one: every row is computed by itself, in an order of its own."""
        yield


def _joined(parts: Iterable[Iterable[int]]) -> Indices:
    return np.fromiter(chain.from_iterable(parts), np.int64)
