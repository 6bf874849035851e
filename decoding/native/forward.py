"""One forward through the kernels: segments in, logits out."""

from collections.abc import Sequence
from ctypes import byref

import numpy as np
import torch
from torch import Tensor

from decoding.native.library import Batch
from decoding.native.model import NativeModel
from decoding.plan import Segment


class NativeForward:
    """Computes segments with a :class:`NativeModel`."""

    def __init__(self, model: NativeModel) -> None:
        self._model = model

    def __call__(self, segments: Sequence[Segment], cache: Tensor) -> Tensor:
        """Compute all segments; returns the wanted logits, ``[rows, vocabulary]`` in float32.

        ``cache`` is ``[layers, slots, 2, key-value heads, head size]``.
        """
        counts = np.array([len(s.tokens) for s in segments])
        starts = np.array([s.start for s in segments])
        tokens = np.concatenate([np.asarray(s.tokens, np.int64) for s in segments])
        parents = np.concatenate([np.asarray(s.parents, np.int64) for s in segments])
        positions = np.concatenate([_positions(s) for s in segments])
        slots = np.concatenate([s.slots[: s.start + len(s.tokens)] for s in segments])
        outputs = _wanted(segments)
        logits = torch.empty(len(outputs), self._model.vocabulary_size)
        batch = Batch(
            rows=len(tokens),
            sequences=len(segments),
            wanted=len(outputs),
            tokens=tokens.ctypes.data,
            positions=positions.ctypes.data,
            parents=parents.ctypes.data,
            counts=counts.ctypes.data,
            starts=starts.ctypes.data,
            slots=slots.ctypes.data,
            outputs=outputs.ctypes.data,
            cache=cache.data_ptr(),
            cache_slots=cache.shape[1],
        )
        model = self._model
        if model.library.stride_forward(model.handle, byref(batch), logits.data_ptr()):
            raise MemoryError("not enough memory for this step")
        return logits


def _positions(segment: Segment) -> np.ndarray:
    depth: list[int] = []
    for parent in segment.parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return segment.start + np.array(depth, np.int64)


def _wanted(segments: Sequence[Segment]) -> np.ndarray:
    ends = np.cumsum([len(s.tokens) for s in segments])
    return np.concatenate(
        [
            np.arange(end - len(s.tokens) + s.logits_from, end)
            for s, end in zip(segments, ends, strict=True)
        ]
    )
