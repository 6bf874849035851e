"""A tiny engine for every test that needs a model."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from tiny_engine import MakeEngine, tiny_llama
from transformers import LlamaForCausalLM

from decoding.cost import CostModel
from decoding.eager.computation import EagerComputation
from decoding.eager.plan import Shapes
from decoding.engine import Engine
from decoding.governor import Governor
from decoding.options import Limits
from decoding.runner import Runner

# A busy machine is slow, which is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors are computed fastest by one thread, by far where others are at work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def llama() -> LlamaForCausalLM:
    """The tiny model as transformers runs it."""
    return tiny_llama()


@pytest.fixture(scope="session")
def make_engine(llama: LlamaForCausalLM) -> MakeEngine:
    def make(
        *,
        num_blocks: int = 64,
        eos: tuple[int, ...] = (),
        tokenizer: Any = None,
        cost: CostModel | None = None,
        governor: Governor | None = None,
        **limits: Any,
    ) -> Engine:
        computation = EagerComputation(deepcopy(llama))
        computation.shapes = Shapes(rows=8)  # in float32 a row's bits depend on the number of rows
        runner = Runner(computation, num_blocks)
        return Engine(
            runner,
            tokenizer=tokenizer,
            eos=eos,
            limits=Limits(**limits),
            cost=cost,
            governor=governor,
        )

    return make


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()
