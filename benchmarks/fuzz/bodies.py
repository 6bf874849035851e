"""Bodies that are nearly right: every field as it may be, as it may not, and in odd company."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.fuzz.contract import CHAT, COMPLETIONS, DETOKENIZE, TOKENIZE, fault_in
from benchmarks.keeping import Connection, ConnectionBroke
from decoding import strategies

_SECONDS_TO_ANSWER = 60.0

_ODD_NUMBERS = (0, -1, 1, 16, 17, 2**31, 2**63, 2**64, -(2**64), 10**40, -0.0, 1e-9, 1e9, 1e308)
_ODD_TEXTS = ("", " ", "0", "nan", "null", "\x00", "\ud800", "a" * 9000)
_ODD_LISTS: tuple[list[Any], ...] = ([], [[]], [None], [{}], [0] * 300, ["a"] * 300)
_ODD_OBJECTS: tuple[dict[str, Any], ...] = ({}, {"": None}, {"type": "text"})
ODD = st.one_of(
    st.sampled_from((None, True, False)),
    st.sampled_from(_ODD_NUMBERS),
    st.sampled_from(_ODD_TEXTS),
    st.sampled_from(_ODD_LISTS),
    st.sampled_from(_ODD_OBJECTS),
    st.text(max_size=40),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=12,
    ),
)
_TOKEN = st.integers(0, 60_000)
_OPTION = st.one_of(st.booleans(), st.integers(-2, 40), st.floats(-1, 2), st.text(max_size=8))
_NAMES = ("auto", *strategies.names())
_OPTIONS = sorted({option for name in strategies.names() for option in strategies.options(name)})

_SHARED: dict[str, st.SearchStrategy[Any]] = {
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "n": st.integers(0, 17),
    "max_tokens": st.integers(-1, 12) | st.integers(0, 10_000),
    "stop": st.text(max_size=8) | st.lists(st.text(max_size=8), max_size=18),
    "temperature": st.floats(-0.1, 2.1),
    "top_p": st.floats(-0.1, 1.1),
    "top_k": st.integers(-2, 100),
    "min_p": st.floats(-0.1, 1.1),
    "presence_penalty": st.floats(-2.1, 2.1),
    "frequency_penalty": st.floats(-2.1, 2.1),
    "repetition_penalty": st.floats(0, 10.1),
    "logit_bias": st.dictionaries(
        _TOKEN.map(str) | st.text(max_size=4), st.floats(-101, 101), max_size=20
    ),
    "seed": st.integers(-(2**70), 2**70),
    "min_tokens": st.integers(-1, 20),
    "ignore_eos": st.booleans(),
    "stop_token_ids": st.lists(_TOKEN, max_size=130),
    "cache_salt": st.text(max_size=260),
    "prediction": st.fixed_dictionaries({"type": st.just("content"), "content": st.text()}),
    "documents": st.lists(
        st.text(max_size=30) | st.just({"text": "Page.", "title": "t"}), max_size=4
    ),
    "documents_in_prompt": st.booleans(),
    "deadline": st.floats(-1, 20),
    "user": st.text(max_size=8),
    "metadata": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
    "response_format": st.sampled_from(({"type": "text"}, {"type": "json_object"})),
    "decoding": st.fixed_dictionaries(
        {},
        optional={
            "strategy": st.sampled_from(_NAMES) | st.text(max_size=6),
            "lossless": st.booleans(),
            "budget": st.booleans(),
            **dict.fromkeys(_OPTIONS, _OPTION),
        },
    ),
}
_ROLES = st.sampled_from(("system", "developer", "user", "assistant", "tool", ""))
_PART = st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=20)})
_MESSAGE = st.fixed_dictionaries(
    {"role": _ROLES, "content": st.text(max_size=60) | st.lists(_PART, max_size=3)},
    optional={"name": st.text(max_size=70), "refusal": st.text(max_size=3)},
)
_CHAT_ONLY: dict[str, st.SearchStrategy[Any]] = {
    "messages": st.lists(_MESSAGE, max_size=5),
    "max_completion_tokens": st.integers(-1, 12),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(-1, 21),
    "tools": st.just([]) | st.lists(st.just({"type": "function"}), max_size=2),
}
_COMPLETION_ONLY: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.one_of(
        st.text(max_size=200),
        st.lists(st.text(max_size=20), max_size=6),
        st.lists(_TOKEN, max_size=40),
        st.lists(st.lists(_TOKEN, max_size=5), max_size=4),
    ),
    "echo": st.booleans(),
    "logprobs": st.integers(-1, 21) | st.booleans(),
    "best_of": st.integers(0, 4),
    "suffix": st.text(max_size=4),
}
_FIELDS = {
    CHAT: {**_SHARED, **_CHAT_ONLY},
    COMPLETIONS: {**_SHARED, **_COMPLETION_ONLY},
    TOKENIZE: {"prompt": st.text(), "messages": st.lists(_MESSAGE, max_size=3)},
    DETOKENIZE: {"tokens": st.lists(_TOKEN, max_size=40)},
}
_GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
    COMPLETIONS: {"prompt": "Hello", "max_tokens": 4},
    TOKENIZE: {"prompt": "Hello"},
    DETOKENIZE: {"tokens": [1, 2]},
}


class Sent(NamedTuple):
    """A request."""

    path: str
    body: dict[str, Any]


@dataclass
class Bodies:
    """What became of them."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@st.composite
def requests(draw: st.DrawFn, model: str) -> Sent:
    """A good body in which some fields are replaced, added or left out."""
    path = draw(st.sampled_from((CHAT, CHAT, COMPLETIONS, COMPLETIONS, TOKENIZE, DETOKENIZE)))
    body: dict[str, Any] = {"model": model, **_GOOD[path]}
    fields = _FIELDS[path]
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=6, unique=True)):
        is_odd = draw(st.integers(0, 3)) == 0
        body[name] = draw(ODD if is_odd else fields[name])
    if draw(st.integers(0, 9)) == 0:
        body.pop(draw(st.sampled_from(sorted(body))))
    if draw(st.integers(0, 9)) == 0:
        body[draw(st.text(max_size=300))] = draw(ODD)
    return Sent(path, body)


def fuzz(
    connection: Connection, model: str, examples: int, report: Callable[[int], None]
) -> Bodies:
    """Send so many bodies, one after the other, and judge every answer."""
    found = Bodies()
    with asyncio.Runner() as runner:

        @seed(1)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests(model))
        def each(sent: Sent) -> None:
            runner.run(_send(connection, sent, found))
            report(found.statuses.total())

        each()
        connection.close()
    return found


async def _send(connection: Connection, sent: Sent, found: Bodies) -> None:
    try:
        async with asyncio.timeout(_SECONDS_TO_ANSWER):
            reply = await connection.post(sent.path, sent.body)
    except (TimeoutError, ConnectionBroke) as error:
        found.faults.append(f"{type(error).__name__} {error}: {_shown(sent)}")
        return
    found.statuses[reply.status] += 1
    kind = reply.headers.get("content-type", "")
    if fault := fault_in(sent.path, reply.status, kind, reply.body):
        found.faults.append(f"{fault}: {_shown(sent)}")


def _shown(sent: Sent) -> str:
    return f"{sent.path} {json.dumps(sent.body)[:2000]}"
