"""The start-up self-check notices what it is there to notice."""

from collections.abc import Sequence

import pytest
from tiny_engine import tiny_llama
from torch import Tensor

from decoding import exactness
from decoding.eager.computation import EagerComputation
from decoding.runner import Runner
from decoding.segment import Segment


class RowCountMatters(Runner):
    """A machine whose logits change by the least bit when many rows are computed together."""

    def forward(self, segments: Sequence[Segment]) -> Tensor:
        logits = super().forward(segments)
        many = sum(len(segment.tokens) for segment in segments) > 100
        return logits.nextafter(logits + 1) if many else logits


class BranchesMatter(Runner):
    """A machine on which a second branch comes out differently."""

    def forward(self, segments: Sequence[Segment]) -> Tensor:
        logits = super().forward(segments)
        branches = any(list(s.parents) != list(range(-1, len(s.tokens) - 1)) for s in segments)
        return logits.nextafter(logits + 1) if branches else logits


@pytest.mark.parametrize("machine", [RowCountMatters, BranchesMatter])
def test_one_changed_bit_withdraws_the_promise(machine: type[Runner]) -> None:
    runner = machine(EagerComputation(tiny_llama()), num_blocks=64)
    assert not exactness.check(runner).bit_exact


def test_the_cache_is_left_empty() -> None:
    runner = Runner(EagerComputation(tiny_llama()), num_blocks=64)
    exactness.check(runner)
    assert not runner.cache.any()


def test_without_a_check_nothing_is_promised() -> None:
    assert not exactness.UNCHECKED.bit_exact
