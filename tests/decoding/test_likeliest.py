"""The likeliest tokens are those of the largest logits, however they are found."""

import pytest
import torch
from tiny_engine import MakeEngine


@pytest.mark.parametrize("vocabulary", [50, 640, 49_152])
def test_the_largest_logits_are_found(make_engine: MakeEngine, vocabulary: int) -> None:
    logits = torch.randn(7, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    found = make_engine().runner.computation.likeliest(logits, 8)
    assert found.tolist() == logits.topk(8).indices.tolist()
