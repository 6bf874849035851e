"""Every family that is served says, token for token, what ``model.generate`` says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from decoding.draft import Draft, Strategy
from decoding.eager.computation import EagerComputation
from decoding.engine import Engine
from decoding.options import Limits
from decoding.request import Request, Sampling, Stopping
from decoding.runner import BLOCK_SIZE, Runner
from decoding.segment import Segment
from decoding.sequence import Sequence
from tests.decoding.tiny_models import FAMILIES, VOCABULARY, WINDOW, reference, tiny_model

PROMPT_LENGTHS = (5, WINDOW + 9, 37)
ANSWER = 32  # so that the longest text passes 64 tokens, where the keys of a row are padded anew
DTYPES = (torch.float32, torch.float64)
# How far logits may be off. Plain attention rounds its weights to float32 in any dtype.
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
EAGER_TOLERANCE = 1e-4

Guess = Callable[[list[int]], Draft]


@dataclass(frozen=True)
class Case:
    """A family's model in our runner, and what the model says by itself."""

    own: PreTrainedModel
    runner: Runner
    prompts: list[list[int]]
    answers: list[list[int]]


@cache
def case_of(family: str, dtype: torch.dtype) -> Case:
    model = tiny_model(FAMILIES[family](), dtype)
    own = reference(model)
    prompts = [random_tokens(length, seed=length) for length in PROMPT_LENGTHS]
    answers = [generated(own, prompt) for prompt in prompts]
    return Case(own, Runner(EagerComputation(model), num_blocks=32), prompts, answers)


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    value: torch.dtype = request.param
    return value


@pytest.fixture(params=FAMILIES)
def case(request: pytest.FixtureRequest, dtype: torch.dtype) -> Case:
    return case_of(request.param, dtype)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slower with more, by far so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    case_of.cache_clear()


def random_tokens(length: int, seed: int) -> list[int]:
    tokens: list[int] = np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist()
    return tokens


def generated(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=ANSWER,
        pad_token_id=0,
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


# --- drafters that know the answer -----------------------------------------------------------


def wrong(tokens: list[int]) -> list[int]:
    return [(token + 1) % VOCABULARY for token in tokens]


def half_right_chain(rest: list[int]) -> Draft:
    return Draft.chain([*rest[:3], *wrong(rest[3:6])])


def branching_tree(rest: list[int]) -> Draft:
    """At every depth a wrong sibling with a wrong child comes before the right node."""
    tokens: list[int] = []
    parents: list[int] = []
    right = -1
    for token in rest[:5]:
        tokens += [*wrong([token]), token, token]
        parents += [right, len(parents), right]
        right = len(parents) - 1
    return Draft(tuple(tokens), tuple(parents))


def answers_of(
    case: Case, *, step_tokens: int = 512, guess: Guess | None = None
) -> list[list[int]]:
    """All prompts in one batch of our engine."""
    engine = Engine(case.runner, limits=Limits(step_tokens=step_tokens))
    answers: dict[str, list[int]] = {}
    for index, prompt in enumerate(case.prompts):
        request = Request(
            id=str(index),
            prompt=tuple(prompt),
            stopping=Stopping(max_tokens=ANSWER),
            sampling=Sampling(temperature=0),
        )
        answers[request.id] = []
        engine.add(request, guess and drafter(guess, case.answers[index]))
    while engine.has_work:
        for output in engine.step().outputs:
            assert output.error is None
            answers[output.request_id] += output.tokens
    return list(answers.values())


def drafter(guess: Guess, answer: list[int]) -> Callable[[Sequence], Strategy]:
    def decode(seq: Sequence) -> Strategy:
        while True:
            yield guess(answer[seq.num_answer :])

    return decode


# --- the facts -------------------------------------------------------------------------------


def test_the_text_to_reproduce_does_not_repeat_itself(case: Case) -> None:
    """Else a wrong position or a lost key could go unseen."""
    assert all(len(set(answer)) >= 5 for answer in case.answers)
    assert len({token for answer in case.answers for token in answer}) >= 20


def test_a_batch_says_what_generate_says_one_by_one(case: Case) -> None:
    assert answers_of(case) == case.answers


def test_prompts_in_small_chunks_change_no_token(case: Case) -> None:
    assert answers_of(case, step_tokens=7) == case.answers


@pytest.mark.parametrize("guess", [half_right_chain, branching_tree])
@pytest.mark.parametrize("step_tokens", [512, 29])
def test_drafts_change_no_token(case: Case, guess: Guess, step_tokens: int) -> None:
    assert answers_of(case, step_tokens=step_tokens, guess=guess) == case.answers


def test_logits_are_the_models_own(case: Case, dtype: torch.dtype) -> None:
    tokens = random_tokens(50, seed=50)
    slots = BLOCK_SIZE + np.arange(50)
    ours = case.runner.forward([Segment(tokens, range(-1, 49), 0, slots, 0)])
    assert ours.dtype == dtype
    assert difference(ours, case.own, tokens) < EAGER_TOLERANCE
    if case.own._supports_sdpa:
        case.own.set_attn_implementation("sdpa")
        assert difference(ours, case.own, tokens) < TOLERANCES[dtype]
        case.own.set_attn_implementation("eager")


@torch.inference_mode()
def difference(ours: torch.Tensor, model: PreTrainedModel, tokens: list[int]) -> float:
    own = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return float((ours - own).abs().max())
