"""The guarantee: on the CPU, in every format, with the default model, answers are plain decoding's.

Not "up to numerics": token ids are identical and the logits behind every token are the same bits,
for every draft however good or bad, alone or in a mixed batch, with the prefix cache cold or warm,
for any chunk size, preempted or not, greedy and seeded. ``docs/exactness.md`` says why it holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from decoding import exactness, strategies
from decoding.batch import Turn
from decoding.draft import Draft, Strategy
from decoding.eager.computation import CANDIDATES, EagerComputation
from decoding.eager.plan import Shapes
from decoding.engine import Engine
from decoding.load import load_model
from decoding.native.computation import NativeComputation
from decoding.native.library import library
from decoding.options import Format, Limits
from decoding.request import Reference, Request, Sampling, Stopping
from decoding.runner import Computation, Runner
from decoding.sequence import Sequence as Live
from decoding.verify import accepted_path

pytestmark = pytest.mark.slow

ANSWER = 24
QUESTIONS = (
    "What is gravity?",
    "List three fruits.",
    "Write a line of Python that prints the numbers 1 to 10, then explain every part of it.",
    "Translate to French: The cat sleeps on the mat.",
    "Why is the sky blue? Answer in one sentence.",
    "Tell me a very short story about a fox and the moon.",
    "1 + 1 =",
    "Repeat after me: one two three one two three one two three one two three " * 6,
)
SAMPLINGS = {
    "greedy": Sampling(temperature=0),
    "seeded": Sampling(temperature=0.9, top_p=0.95, seed=7),
    "penalised": Sampling(
        temperature=0.7,
        top_k=40,
        min_p=0.02,
        seed=11,
        repetition_penalty=1.1,
        presence_penalty=0.4,
        frequency_penalty=0.3,
        logit_bias={28: 2.0, 30: -100.0},
    ),
}

# --- adversarial drafters: each knows the plain answer and draws its own conclusions -----------

Guess = Callable[[list[int], np.random.Generator], Draft]


def _wrong(tokens: Sequence[int]) -> list[int]:
    return [(token + 1) % 49152 for token in tokens]


def _perfect(rest: list[int], _: np.random.Generator) -> Draft:
    return Draft.chain(rest[:9])


def _all_wrong(rest: list[int], _: np.random.Generator) -> Draft:
    return Draft.chain(_wrong(rest[:9]))


def _half_right(rest: list[int], _: np.random.Generator) -> Draft:
    return Draft.chain([*rest[:3], *_wrong(rest[3:9])])


def _branching(rest: list[int], _: np.random.Generator) -> Draft:
    """The right path is the second child everywhere, behind a wrong branch of the same length."""
    tokens: list[int] = []
    parents: list[int] = []
    root = -1
    for token in rest[:5]:
        start = len(tokens)
        tokens += [*_wrong([token, token]), token]
        parents += [root, start, root]
        root = start + 2
    return Draft(tuple(tokens), tuple(parents))


def _duplicate_siblings(rest: list[int], _: np.random.Generator) -> Draft:
    """Twice the same first token; only below the second one does the right path go on."""
    if len(rest) < 3:
        return Draft()
    return Draft((rest[0], rest[0], *_wrong(rest[1:2]), rest[1], rest[2]), (-1, -1, 0, 1, 3))


def _past_the_end(rest: list[int], _: np.random.Generator) -> Draft:
    """More than the answer may have, an end of sequence among it."""
    return Draft.chain([*rest, 2, 5, 6, 7])


def _random_tree(rest: list[int], random: np.random.Generator) -> Draft:
    size = int(random.integers(0, 24))
    parents = tuple(int(random.integers(-1, node)) for node in range(size))
    depth_of: list[int] = []
    for parent in parents:
        depth_of.append(0 if parent < 0 else depth_of[parent] + 1)
    right = [depth < len(rest) and random.random() < 0.7 for depth in depth_of]
    tokens = tuple(
        rest[depth] if is_right else int(random.integers(0, 49152))
        for depth, is_right in zip(depth_of, right, strict=True)
    )
    return Draft(tokens, parents)


GUESSES: dict[str, Guess] = {
    "perfect": _perfect,
    "wrong": _all_wrong,
    "half_right": _half_right,
    "branching": _branching,
    "duplicate_siblings": _duplicate_siblings,
    "past_the_end": _past_the_end,
    "random_tree": _random_tree,
}


def drafting(guess: Guess, answer: Sequence[int]) -> Callable[[Live], Strategy]:
    def decode(seq: Live) -> Strategy:
        random = np.random.default_rng(5)
        while True:
            yield guess(list(answer[seq.num_answer :]), random)

    return decode


# --- an engine that shows the logits behind every token ----------------------------------------


@dataclass
class Answer:
    tokens: list[int] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    steps: int = 0
    accepted: int = 0
    cached: int = 0


class WatchedEngine(Engine):
    """Notes what each token was chosen from."""

    def answer(self, *jobs: tuple[Request, Guess | None, Sequence[int]]) -> list[Answer]:
        """Answer all requests at once; a guess comes with the plain answer it knows."""
        self.answers = {request.id: Answer() for request, _, _ in jobs}
        self.preemptions = 0
        for request, guess, known in jobs:
            self.add(request, guess and drafting(guess, known))
        while self.has_work:
            report = self.step()
            self.preemptions += report.preemptions
            for output in report.outputs:
                assert output.error is None
                answer = self.answers[output.request_id]
                answer.steps += output.steps
                answer.accepted += output.accepted
                answer.cached += output.cached_tokens or 0
        assert self.pool.usage == 0
        return list(self.answers.values())

    def _accept(self, turn: Turn, logits: Tensor, chosen: list[int]) -> list[tuple[int, int]]:
        before = len(turn.seq.tokens)
        moves = super()._accept(turn, logits, chosen)
        answer = self.answers[turn.seq.request.id]
        rows = [0, *(node + 1 for node in accepted_path(turn.draft, chosen))]
        new = turn.seq.tokens[before:]
        answer.tokens += new
        answer.logits += logits[rows[: len(new)]].clone().unbind()
        return moves


def assert_same(answer: Answer, plain: Answer) -> None:
    assert answer.tokens == plain.tokens
    for mine, theirs in zip(answer.logits, plain.logits, strict=True):
        assert torch.equal(mine, theirs)


# --- the machine under test ---------------------------------------------------------------------


def native(model: PreTrainedModel, format: Format) -> NativeComputation:
    return NativeComputation(model, format, library())


COMPUTATIONS: dict[str, Callable[[PreTrainedModel], Computation]] = {
    "int8": partial(native, format="int8"),
    "bf16": partial(native, format="bf16"),
    "fp32": partial(native, format="fp32"),
    "transformers": EagerComputation,
}


@pytest.fixture(scope="module", params=COMPUTATIONS)
def runner(default_model: Path, request: pytest.FixtureRequest) -> Runner:
    model = load_model(default_model, torch.bfloat16, torch.device("cpu"))
    runner = Runner(COMPUTATIONS[request.param](model), num_blocks=400)
    found = exactness.check(runner)
    assert found.bit_exact, found.statement
    return runner


@pytest.fixture(scope="module")
def prompts(default_model: Path) -> list[tuple[int, ...]]:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(default_model)
    return [
        tuple(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], add_generation_prompt=True
            )["input_ids"]
        )
        for question in QUESTIONS
    ]


def engine(runner: Runner, *, step_tokens: int = 512, prefix_cache: bool = False) -> WatchedEngine:
    return WatchedEngine(
        runner, eos=(2,), limits=Limits(step_tokens=step_tokens, prefix_cache=prefix_cache)
    )


def request(prompt: tuple[int, ...], sampling: Sampling, name: str = "only") -> Request:
    stopping = Stopping(max_tokens=ANSWER, ignore_eos=True)
    return Request(id=name, prompt=prompt, sampling=sampling, stopping=stopping)


@pytest.fixture(scope="module")
def plain(runner: Runner, prompts: list[tuple[int, ...]]) -> dict[tuple[str, int], Answer]:
    """Every prompt under every sampling, decoded plainly and alone: what all else must equal."""
    return {
        (name, i): engine(runner).answer((request(prompt, sampling), None, ()))[0]
        for name, sampling in SAMPLINGS.items()
        for i, prompt in enumerate(prompts)
    }


Plain = dict[tuple[str, int], Answer]
Prompts = list[tuple[int, ...]]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("guess", GUESSES)
def test_no_draft_changes_a_bit(
    runner: Runner, prompts: Prompts, plain: Plain, guess: str, sampling: str
) -> None:
    known = plain[sampling, 0]
    job = (request(prompts[0], SAMPLINGS[sampling]), GUESSES[guess], known.tokens)
    (answer,) = engine(runner).answer(job)
    assert_same(answer, known)
    assert answer.steps == len(answer.tokens) - answer.accepted


def test_a_perfect_draft_saves_steps(runner: Runner, prompts: Prompts, plain: Plain) -> None:
    known = plain["greedy", 0]
    job = (request(prompts[0], SAMPLINGS["greedy"]), _perfect, known.tokens)
    assert engine(runner).answer(job)[0].steps == 3  # 24 tokens, ten a step


def test_a_mixed_batch_changes_no_bit(runner: Runner, prompts: Prompts, plain: Plain) -> None:
    """Eight requests: every sampling, every drafter, prompts from 30 to 150 tokens."""
    names = list(SAMPLINGS)
    chosen = [(names[i % 3], i) for i in range(len(prompts))]
    guesses = [None, *GUESSES.values()]
    jobs = [
        (request(prompts[i], SAMPLINGS[name], str(i)), guess, plain[name, i].tokens)
        for (name, i), guess in zip(chosen, guesses, strict=True)
    ]
    for answer, key in zip(engine(runner).answer(*jobs), chosen, strict=True):
        assert_same(answer, plain[key])


@pytest.mark.parametrize("step_tokens", [5, 33, 100])
def test_no_chunk_size_changes_a_bit(
    runner: Runner, prompts: Prompts, plain: Plain, step_tokens: int
) -> None:
    watched = engine(runner, step_tokens=step_tokens)
    for i in (0, 7):
        job = (request(prompts[i], SAMPLINGS["seeded"]), _half_right, plain["seeded", i].tokens)
        assert_same(watched.answer(job)[0], plain["seeded", i])


def test_a_warm_prefix_cache_changes_no_bit(runner: Runner, prompts: Prompts, plain: Plain) -> None:
    watched = engine(runner, prefix_cache=True)
    job = (request(prompts[7], SAMPLINGS["seeded"]), None, ())
    cold, warm = watched.answer(job)[0], watched.answer(job)[0]
    assert (cold.cached, warm.cached) == (0, (len(prompts[7]) - 1) // 16 * 16)
    assert_same(cold, plain["seeded", 7])
    assert_same(warm, plain["seeded", 7])


def test_blocks_left_by_accepted_branches_change_no_bit(
    runner: Runner, prompts: Prompts, plain: Plain
) -> None:
    """The moved keys and values of a draft's accepted branch are found again as a prefix."""
    watched = engine(runner, prefix_cache=True)
    known = plain["greedy", 0]
    watched.answer((request(prompts[0], SAMPLINGS["greedy"]), _branching, known.tokens))
    longer = (*prompts[0], *known.tokens[:-1])
    job = (request(longer, SAMPLINGS["greedy"]), None, ())
    (warm,) = watched.answer(job)
    assert warm.cached >= 48 > len(prompts[0])
    assert_same(warm, engine(runner).answer(job)[0])


def test_preemption_changes_no_bit(
    runner: Runner, prompts: Prompts, plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "num_blocks", 11)
    watched = engine(runner, prefix_cache=True)
    guesses = {0: None, 1: None, 3: _branching, 5: None}
    jobs = [
        (request(prompts[i], SAMPLINGS["seeded"], str(i)), guess, plain["seeded", i].tokens)
        for i, guess in guesses.items()
    ]
    answers = watched.answer(*jobs)
    assert watched.preemptions > 0
    for i, answer in zip(guesses, answers, strict=True):
        assert_same(answer, plain["seeded", i])


# --- every strategy there is ----------------------------------------------------------------------

LOSSLESS = [name for name in strategies.names() if strategies.is_lossless(name)]


def known_text(i: int, answer: Sequence[int]) -> tuple[Reference, ...]:
    """What a request may bring: an edited prediction, a past answer, or a document, or all."""
    edited = (*answer[:7], 30, *answer[9:])
    every = (
        Reference("prediction", edited, likeness=1.0),
        Reference("history", (*answer[:12], *answer[4:]), likeness=0.8),
        Reference("document", tuple(answer[5:20])),
    )
    return every if i % 4 == 3 else every[i % 4 : i % 4 + 1]


@pytest.mark.parametrize("strategy", LOSSLESS)
def test_no_strategy_changes_a_bit(
    runner: Runner, prompts: Prompts, plain: Plain, strategy: str
) -> None:
    """All samplings and prompts in one batch, each with something else to draft from."""
    jobs = [
        (
            msgspec.structs.replace(
                request(prompts[i], SAMPLINGS[name], f"{name} {i}"),
                strategy=strategy,
                references=known_text(i, known.tokens),
            ),
            None,
            (),
        )
        for (name, i), known in plain.items()
    ]
    for answer, known in zip(engine(runner).answer(*jobs), plain.values(), strict=True):
        assert_same(answer, known)
        assert answer.steps == len(answer.tokens) - answer.accepted


@pytest.mark.parametrize("runner", ["transformers"], indirect=True)
@pytest.mark.parametrize("shapes", CANDIDATES[1:], ids=str)
def test_the_careful_shapes_are_exact_too(
    runner: Runner, prompts: Prompts, shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other machines need them: here they must hold as well, whatever bits they produce."""
    monkeypatch.setattr(runner.computation, "shapes", shapes)
    question = request(prompts[7], SAMPLINGS["seeded"])
    (known,) = engine(runner).answer((question, None, ()))
    (answer,) = engine(runner, step_tokens=33).answer((question, _branching, known.tokens))
    assert_same(answer, known)
