"""Every lossless strategy answers what plain decoding answers, whatever a request asks for.

Here with a tiny model and drafts that are often right; ``tests/test_exactness.py`` has the default
model and compares logits, too.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tiny_engine import VOCABULARY, Answer, Client, MakeEngine, answers, asking, prompt_of
from tokenizers_in_memory import byte_tokenizer

from decoding import strategies
from decoding.request import OptionValue, Reference, Request, Sampling

ROOT = Path(__file__).parents[2]
LOSSLESS = [name for name in strategies.names() if strategies.is_lossless(name)]

SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.6, 1.2]),
    top_p=st.sampled_from([1.0, 0.9]),
    top_k=st.sampled_from([0, 5]),
    min_p=st.sampled_from([0.0, 0.05]),
    presence_penalty=st.sampled_from([0.0, 0.7]),
    frequency_penalty=st.sampled_from([0.0, -0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    logit_bias=st.sampled_from([{}, {7: 3.0, 9: -100.0}]),
    seed=st.integers(0, 5),
)
REQUESTS = st.builds(
    lambda sampling, length, **fields: asking(
        prompt_of(length, seed=length), sampling=sampling, **fields
    ),
    SAMPLINGS,
    st.integers(1, 40),
    n=st.integers(1, 3),
    logprobs=st.sampled_from([None, 2]),
    max_tokens=st.integers(1, 30),
    stopping=st.fixed_dictionaries(
        {"min_tokens": st.sampled_from([0, 1]), "stop_token_ids": st.sampled_from([(), (3, 4, 5)])}
    ),
)


def everything(client: Client, request: Request) -> list[tuple[object, ...]]:
    """All that a client sees of each choice."""
    choices: list[Answer] = [client.answer(request, index) for index in range(request.n)]
    return [(c.tokens, c.text, c.logprobs, c.finish_reason, c.error) for c in choices]


def answered(make_engine: MakeEngine, requests: Sequence[Request]) -> Client:
    client = Client(make_engine(eos=(1,), tokenizer=byte_tokenizer()))
    for request in requests:
        client.ask(request)
    client.finish()
    return client


def resembling(answer: Sequence[int], seed: int) -> tuple[Reference, ...]:
    """Text that is like the answer here and there."""
    generator = random.Random(seed)
    edited = [t if generator.random() < 0.9 else generator.randrange(VOCABULARY) for t in answer]
    cut = answer[generator.randrange(len(answer)) :]
    return (
        Reference("prediction", tuple(edited), likeness=generator.choice([0.0, 1.0])),
        Reference("document", tuple(cut)),
    )


@pytest.mark.parametrize("strategy", LOSSLESS)
@settings(max_examples=20)
@given(requests=st.lists(REQUESTS, min_size=1, max_size=4, unique_by=lambda r: r.id), seed=...)
def test_no_strategy_changes_an_answer(
    make_engine: MakeEngine, strategy: str, requests: list[Request], seed: int
) -> None:
    plain = answered(make_engine, requests)
    drafting = [
        replace(
            request,
            strategy=strategy,
            references=resembling(plain.answer(request).tokens, seed),
        )
        for request in requests
    ]
    client = answered(make_engine, drafting)
    for before, after in zip(requests, drafting, strict=True):
        assert everything(client, after) == everything(plain, before)


@pytest.mark.parametrize(("options", "steps"), [({}, 1), ({"copy": 20}, 2), ({"copy": 10}, 4)])
@pytest.mark.parametrize("recycling", [True, False])
def test_reference_copy_takes_few_steps_where_the_answer_is_known(
    make_engine: MakeEngine, options: dict[str, OptionValue], steps: int, recycling: bool
) -> None:
    plain = answered(make_engine, [request := asking(max_tokens=40)])
    known = plain.answer(request).tokens
    references = (Reference("prediction", known, likeness=1.0),)
    copying = replace(
        request,
        strategy="reference",
        references=references,
        options={**options, "recycling": recycling},
    )
    answer = answered(make_engine, [copying]).answer(copying)
    assert (answer.tokens, answer.steps) == (known, steps)


def test_a_stop_string_inside_an_accepted_run_cuts_there(make_engine: MakeEngine) -> None:
    plain = answered(make_engine, [request := asking(max_tokens=40)]).answer(request)
    stop = plain.text[12:15]
    cut = plain.text.index(stop)
    references = (Reference("prediction", plain.tokens, likeness=1.0),)
    copying = replace(
        request,
        strategy="reference",
        references=references,
        stopping=replace(request.stopping, stop=(stop,)),
    )
    answer = answered(make_engine, [copying]).answer(copying)
    assert (answer.text, answer.finish_reason) == (plain.text[:cut], "stop")
    assert answer.steps <= 2


def can_have(strategy: str, option: str, value: OptionValue) -> bool:
    try:
        strategies.check(strategy, {option: value})
    except strategies.OptionError:
        return False
    return True


@pytest.mark.parametrize("strategy", LOSSLESS)
def test_options_change_no_answer(make_engine: MakeEngine, strategy: str) -> None:
    plain = answered(make_engine, [request := asking(max_tokens=40)]).answer(request)
    for name in strategies.options(strategy):
        for value in (True, False, 0, 1, 3, 9):
            if can_have(strategy, name, value):
                drafting = replace(request, strategy=strategy, options={name: value})
                answer = answered(make_engine, [drafting]).answer(drafting)
                assert (answer.tokens, answer.error) == (plain.tokens, None)


def test_the_strategy_that_contributing_shows_is_one(make_engine: MakeEngine) -> None:
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    module: dict[str, Any] = {}
    exec(code, module)
    once = {token: -1e4 for token in range(VOCABULARY) if token != 7}
    request = asking(sampling=Sampling(temperature=0, logit_bias=once))
    plain, guessed = (
        answers(make_engine(), replace(request, id=name), decode=decode)[0]
        for name, decode in (("plain", None), ("guessed", module["decode"]))
    )
    assert guessed.tokens == plain.tokens == (7,) * 24
    assert guessed.steps < plain.steps == 24
