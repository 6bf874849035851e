"""In bf16, on every device: each token is the model's own choice within rounding, drafts or not."""

import copy

import pytest
import torch
from tiny_engine import Decode, answers, asking, branching, half_right, prompt_of, tiny_llama
from transformers import LlamaForCausalLM

from decoding.eager.computation import EagerComputation
from decoding.engine import Engine
from decoding.runner import Runner

MARGIN = 0.25  # of a logit; tiny models' logits spread over about ten
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    ],
)


def shortfall(model: LlamaForCausalLM, prompt: tuple[int, ...], answer: list[int]) -> float:
    """By how much the answer's tokens fall short of the likeliest ones, at most."""
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    with torch.inference_mode():
        logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
    chosen = logits.gather(1, ids[0, len(prompt) :, None])[:, 0]
    return float((logits.amax(-1) - chosen).max())


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_every_token_is_the_models_own_within_a_margin(device: str) -> None:
    model = tiny_llama().to(device, torch.bfloat16)
    reference = copy.deepcopy(model)
    engine = Engine(Runner(EagerComputation(model), num_blocks=64))
    requests = [asking(prompt_of(length, length)) for length in (5, 40, 90)]
    plain = [answer.tokens for answer in answers(engine, *requests)]
    drafts: list[Decode] = [half_right(plain[0]), branching(plain[0])]
    drafted = [answers(engine, asking(requests[0].prompt), decode=d)[0].tokens for d in drafts]
    prompts = [*(request.prompt for request in requests), *[requests[0].prompt] * 2]
    for prompt, answer in zip(prompts, [*plain, *drafted], strict=True):
        assert shortfall(reference, prompt, answer) < MARGIN
