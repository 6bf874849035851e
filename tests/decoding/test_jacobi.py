"""The Jacobi decoder: its iteration, and what it gains with a model that is consistent."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_engine import Client, MakeEngine, asking

from decoding.draft import Draft, Verdict
from decoding.experience import Experience
from decoding.strategies import jacobi
from decoding.verify import accepted_path

Model = Callable[[Sequence[int]], int]
PROMPT = (7, 7, 7)


def by_place(text: Sequence[int]) -> int:
    """Consistent: what it says at a place does not depend on what stands before."""
    return 10 + len(text)


def by_text(text: Sequence[int]) -> int:
    """As inconsistent as can be: any other token before it changes a token."""
    return (31 * sum(text) + 7 * text[-1]) % 101


def driven(model: Model, steps: int, **options: Any) -> list[Verdict]:
    text = [*PROMPT, model(PROMPT)]
    request = SimpleNamespace(prompt=PROMPT)
    seq: Any = SimpleNamespace(tokens=[*text], request=request, experience=Experience(200))
    strategy = jacobi.decode(seq, **options)
    draft = next(strategy)
    verdicts = []
    for _ in range(steps):
        verdicts.append(verdict_of(model, text, draft))
        text += verdicts[-1].tokens
        draft = strategy.send(verdicts[-1])
    return verdicts


def verdict_of(model: Model, text: Sequence[int], draft: Draft) -> Verdict:
    choices = [model([*text, *draft.tokens[:depth]]) for depth in range(len(draft.tokens) + 1)]
    path = accepted_path(draft, choices)
    return Verdict(tuple(choices[: len(path) + 1]), len(path), draft, tuple(choices))


def published(model: Model, size: int, steps: int) -> list[int]:
    """How many tokens each forward commits, by the algorithm of the paper's code."""
    text = [*PROMPT]
    first = model(text)
    block: list[int] = []
    committed = []
    for _ in range(steps):
        block = block or [first] + [7] * (size - 1)
        said = [model([*text, *block[: i + 1]]) for i in range(len(block))]
        corrected = [block[0], *said[:-1]]
        agreed = next((i for i, b in enumerate(block) if b != corrected[i]), len(block))
        text += block[:agreed]
        committed.append(agreed)
        block, first = corrected[agreed:], said[-1]
    return committed


@pytest.mark.parametrize("model", [by_place, by_text])
@pytest.mark.parametrize("size", [2, 5, 16])
def test_shrinking_blocks_are_decoded_as_published(model: Model, size: int) -> None:
    verdicts = driven(model, 40, block=size, shrinking=True)
    assert [len(verdict.tokens) for verdict in verdicts] == published(model, size, 40)


def test_a_consistent_model_gains_a_whole_block_every_other_forward() -> None:
    verdicts = driven(by_place, 40, block=16)
    assert [len(verdict.tokens) for verdict in verdicts[:6]] == [1, 16, 1, 16, 1, 16]


def test_what_did_not_pay_for_one_request_rests_for_the_next() -> None:
    experience = Experience(200)
    experience.trials["jacobi"].refused()
    request = SimpleNamespace(prompt=PROMPT)
    seq: Any = SimpleNamespace(tokens=[*PROMPT], request=request, experience=experience)
    assert next(jacobi.decode(seq)) == Draft()


def test_an_inconsistent_model_gains_nothing_and_loses_nothing() -> None:
    assert all(len(verdict.tokens) <= 2 for verdict in driven(by_text, 40, block=16))


def test_while_it_rests_it_is_hardly_ever_asked(make_engine: MakeEngine) -> None:
    """And both of two requests together let as many steps pass as there are."""
    engine = make_engine()
    trial = engine._experience.trials["jacobi"]
    for _ in range(12):
        trial.refused()
        trial.pass_steps(trial.rest)
    trial.refused()
    rest = trial.rest
    client = Client(engine)
    requests = [client.ask(asking(max_tokens=100, strategy="jacobi")) for _ in range(2)]
    client.finish()
    plain = client.ask(asking(max_tokens=100))
    client.finish()
    for request in requests:
        assert client.answer(request).tokens == client.answer(plain).tokens
        assert client.answer(request).drafted == 0
    assert sum(report.draft_seconds > 0 for report in client.reports) <= 2 * 100 / 32 + 2
    assert rest - 2 * 100 <= trial.rest < rest - 100


def test_after_its_rest_it_tries_again(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine._experience.trials["jacobi"].refused()
    client = Client(engine)
    request = client.ask(asking(max_tokens=60, strategy="jacobi"))
    client.finish()
    plain = client.ask(asking(max_tokens=60))
    client.finish()
    assert client.answer(request).drafted > 0
    assert client.answer(request).tokens == client.answer(plain).tokens
