"""What is refused: fields with the param that the error names, and bytes that are no JSON."""

from collections.abc import Iterator
from typing import get_args

from asking import ENDPOINTS

from decoding import strategies


def named(value: object) -> str:
    """The beginning of a case, as the id of its test."""
    return str(value)[:30]


BIG = 2**63

# field, value, the param named in the error (the field, unless said otherwise)
REFUSED_BY_BOTH: list[tuple[str, object, str]] = [
    ("n", 0, "n"),
    ("n", -1, "n"),
    ("n", 17, "n"),
    ("n", 10**18, "n"),
    ("n", 1.0, "n"),
    ("n", "1", "n"),
    ("n", True, "n"),
    ("max_tokens", -1, "max_tokens"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", 1.5, "max_tokens"),
    ("temperature", -1, "temperature"),
    ("temperature", 2.1, "temperature"),
    ("temperature", "1", "temperature"),
    ("temperature", "nan", "temperature"),
    ("temperature", 1e9, "temperature"),
    ("temperature", True, "temperature"),
    ("temperature", 10**400, "temperature"),
    ("top_p", 0, "top_p"),
    ("top_p", -0.1, "top_p"),
    ("top_p", 1.1, "top_p"),
    ("top_p", "nan", "top_p"),
    ("top_k", -2, "top_k"),
    ("top_k", BIG, "top_k"),
    ("min_p", 1.1, "min_p"),
    ("presence_penalty", -2.1, "presence_penalty"),
    ("presence_penalty", -100, "presence_penalty"),
    ("frequency_penalty", 100, "frequency_penalty"),
    ("frequency_penalty", "nan", "frequency_penalty"),
    ("repetition_penalty", 0, "repetition_penalty"),
    ("repetition_penalty", 11, "repetition_penalty"),
    ("seed", 2**70, "seed"),
    ("seed", -(2**70), "seed"),
    ("seed", 1.0, "seed"),
    ("stop", "", "stop"),
    ("stop", ["a", ""], "stop"),
    ("stop", ["a"] * 17, "stop"),
    ("stop", "a" * 4097, "stop"),
    ("stop", [1], "stop[0]"),
    ("stop_token_ids", [-1], "stop_token_ids[0]"),
    ("stop_token_ids", [260], "stop_token_ids"),
    ("logit_bias", {"5": 101}, "logit_bias.5"),
    ("logit_bias", {"5": "nan"}, "logit_bias.5"),
    ("logit_bias", {"260": 1}, "logit_bias"),
    ("logit_bias", {"x": 1}, "logit_bias"),
    ("logit_bias", {"-1": 1}, "logit_bias"),
    ("logit_bias", {str(token): 0 for token in range(2049)}, "logit_bias"),
    ("stream", "yes", "stream"),
    ("ignore_eos", 1, "ignore_eos"),
    ("min_tokens", 2000, "min_tokens"),
    ("model", 1, "model"),
    ("cache_salt", "x" * 257, "cache_salt"),
    ("decoding", "auto", "decoding"),
    ("decoding", {"strategy": "magic"}, "decoding.strategy"),
    ("decoding", {"strategy": 1}, "decoding.strategy"),
    ("decoding", {"strategy": "autoregressive", "window": 4}, "decoding.window"),
    ("decoding", {"window": []}, "decoding.window"),
    ("response_format", {"type": "json_object"}, "response_format"),
    ("response_format", {"type": "json_schema", "json_schema": {}}, "response_format"),
    ("guided_regex", "(a+)+b", "guided_regex"),
    ("prediction", "x", "prediction"),
    ("prediction", {"type": "content"}, "prediction.content"),
    ("prediction", {"content": "x"}, "prediction.type"),
    ("prediction", {"type": "text", "content": "x"}, "prediction.type"),
    ("prediction", {"type": "content", "content": 5}, "prediction.content"),
    ("prediction", {"type": "content", "content": ["x"]}, "prediction.content[0]"),
    ("prediction", {"type": "content", "content": "x", "y": 1}, "prediction.y"),
    ("documents", "x", "documents"),
    ("documents", [5], "documents[0]"),
    ("documents", ["x", None], "documents[1]"),
    ("documents", ["x", ""], "documents[1].text"),
    ("documents", ["x", " \n"], "documents[1].text"),
    ("documents", [{"text": "\t"}], "documents[0].text"),
    ("documents", [{"text": 5}], "documents[0].text"),
    ("documents", [{"title": "x"}], "documents[0].text"),
    ("documents", [{"text": "x", "title": 5}], "documents[0].title"),
    ("documents", [{"text": "x", "id": "1"}], "documents[0].id"),
    ("documents", ["x"] * 257, "documents"),
    ("documents", [{"text": "x" * 600_000, "title": "x" * 400_001}], "documents"),
    ("documents_in_prompt", "no", "documents_in_prompt"),
    ("surprise", 1, "surprise"),
    ("surprise", None, "surprise"),
    ("tokenize", True, "tokenize"),
    ("conversation", [], "conversation"),
    ("__class__", "x", "__class__"),
]
REFUSED_BY_CHAT: list[tuple[str, object, str]] = [
    ("messages", [], "messages"),
    ("messages", None, "messages"),
    ("messages", "hi", "messages"),
    ("messages", ["hi"], "messages[0]"),
    ("messages", [{"role": "user"}], "messages[0].content"),
    ("messages", [{"role": "user", "content": None}], "messages[0].content"),
    ("messages", [{"role": "user", "content": 5}], "messages[0].content"),
    ("messages", [{"role": "user", "content": []}], "messages[0].content"),
    ("messages", [{"role": "user", "content": [{}] * 9}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{}] * 10_000}], "messages[0].content"),
    ("messages", [{"content": "hi"}], "messages[0].role"),
    ("messages", [{"role": "tool", "content": "hi"}], "messages[0].role"),
    ("messages", [{"role": "{{7*7}}", "content": "hi"}], "messages[0].role"),
    ("messages", [{"role": "user", "content": "hi", "x": 1}], "messages[0].x"),
    ("messages", [{"role": "user", "content": "hi", "name": "<a>"}], "messages[0].name"),
    (
        "messages",
        [{"role": "assistant", "content": "hi", "tool_calls": [{}]}],
        "messages[0].tool_calls",
    ),
    ("messages", [{"role": "user", "content": "hi"}] * 2049, "messages"),
    ("max_completion_tokens", 0, "max_completion_tokens"),
    ("logprobs", 1, "logprobs"),
    ("top_logprobs", 21, "top_logprobs"),
    ("top_logprobs", 1, "top_logprobs"),
    ("tools", [{"type": "function"}], "tools"),
    ("tool_choice", "required", "tool_choice"),
    ("functions", [{}], "functions"),
    ("modalities", ["text", "audio"], "modalities"),
    ("audio", {"voice": "x"}, "audio"),
    ("reasoning_effort", "low", "reasoning_effort"),
    ("verbosity", "low", "verbosity"),
    ("chat_template", "{{ 1 }}", "chat_template"),
    *(
        ("chat_template_kwargs", {name: True}, "chat_template_kwargs")
        for name in ("tokenize", "chat_template", "conversation", "__class__")
    ),
    ("suffix", "x", "suffix"),
]
REFUSED_BY_COMPLETIONS: list[tuple[str, object, str]] = [
    ("prompt", "", "prompt"),
    ("prompt", None, "prompt"),
    ("prompt", [], "prompt"),
    ("prompt", [[]], "prompt"),
    ("prompt", [""], "prompt"),
    ("prompt", {}, "prompt"),
    ("prompt", [-1], "prompt"),
    ("prompt", [260], "prompt"),
    ("prompt", [1.0], "prompt"),
    ("prompt", [True], "prompt"),
    ("prompt", ["a", [True]], "prompt[1]"),
    ("prompt", ["a", None], "prompt[1]"),
    ("prompt", ["a"] * 129, "prompt"),
    ("prompt", ["a"] * 100_000, "prompt"),
    ("prompt", [1, "a"], "prompt"),
    ("logprobs", 21, "logprobs"),
    ("logprobs", True, "logprobs"),
    ("best_of", 2, "best_of"),
    ("best_of", 10**9, "best_of"),
    ("suffix", "x", "suffix"),
    ("messages", [], "messages"),
]


def _beyond_limits() -> Iterator[tuple[str, object, str]]:
    """Every option of every strategy that has limits, on either side of them."""
    for strategy in strategies.names():
        for option in strategies.options(strategy).values():
            for limits in get_args(option.annotation)[1:]:
                for value in (limits.ge - 1, limits.le + 1):
                    asked = {"strategy": strategy, option.name: value}
                    yield "decoding", asked, f"decoding.{option.name}"


REFUSALS = [
    *((endpoint, *case) for endpoint in ENDPOINTS for case in REFUSED_BY_BOTH),
    *(("chat", *case) for case in _beyond_limits()),
    *(("chat", *case) for case in REFUSED_BY_CHAT),
    *(("completions", *case) for case in REFUSED_BY_COMPLETIONS),
]


# --- what is no JSON object ---

JSON = {"content-type": "application/json"}
GOOD = b'{"model": "tiny/model", "prompt": "hi"}'


def with_prompt(prompt: bytes) -> bytes:
    return b'{"model": "tiny/model", "prompt": ' + prompt + b"}"


MALFORMED = {
    "empty": b"",
    "cut": b"{",
    "a list": b"[]",
    "null": b"null",
    "not UTF-8": with_prompt(b'"\xff"'),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a surrogate in UTF-8": with_prompt(b'"\xed\xa0\x80"'),
    "a lone high surrogate": with_prompt(rb'"\ud800"'),
    "a lone low surrogate": with_prompt(rb'"x\udc00x"'),
    "a lone surrogate in a key": rb'{"\ud800": 1}',
    "NaN": b'{"temperature": NaN}',
    "Infinity": b'{"temperature": -Infinity}',
    "1e999": b'{"temperature": 1e999}',
    "5000 digits": b'{"n": ' + b"9" * 5000 + b"}",
    "a raw control character": with_prompt(b'"\x00"'),
    "1000 levels": b'{"a":' * 1000 + b"1" + b"}" * 1000,
    "100000 levels": b"[" * 100_000,
    "a word": b"hello",
}
