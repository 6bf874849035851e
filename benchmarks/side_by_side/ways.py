"""Who is asked, and how: servers, and the ways to ask each of them."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from benchmarks.llama_cpp import QUANTISATION
from benchmarks.side_by_side.sessions import LIST

Family = Literal["Stride", "llama.cpp", "transformers", "URL"]

# The best of llama.cpp's modes without a draft model, sizes tried included: docs/decisions.md.
NGRAMS = "ngram-simple:size_n=4,size_m=16"
PROMPT_LOOKUP_TOKENS = 10

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_GREEDY = {"temperature": 0}
_WITH_USAGE = {"temperature": 0, "stream_options": {"include_usage": True}}
_LOOKUP = {"do_sample": False, "prompt_lookup_num_tokens": PROMPT_LOOKUP_TOKENS}


class Way(NamedTuple):
    """A way to ask a server.

    ``fields`` go into every request. Ways share a ``server`` only where it learns nothing from
    answers. ``knows`` are fields beyond OpenAI's usual ones that it takes. ``usage_is_forwards``:
    what it calls completion tokens are forwards, as `transformers serve` counts those that it gets
    at once as one.
    """

    name: str
    family: Family
    server: str
    set_up: str
    fields: Mapping[str, Any] = _GREEDY
    knows: frozenset[str] = frozenset()
    only: str | None = None  # the one category that it is asked
    takes_streams: bool = True
    is_in_short: bool = True
    usage_is_forwards: bool = False

    @property
    def takes_load(self) -> bool:
        """Whether it is asked by many streams, which ask everything."""
        return self.takes_streams and self.only is None

    def __hash__(self) -> int:
        return hash(self.name)


def _stride(
    name: str,
    set_up: str,
    decoding: Mapping[str, Any],
    *,
    only: str | None = None,
    is_in_short: bool = False,
) -> Way:
    return Way(
        name,
        "Stride",
        name,  # a server for each way: it learns from its answers
        set_up,
        {**_WITH_USAGE, "decoding": dict(decoding)},
        frozenset({"prediction", "documents", "cache_salt"}),
        only,
        is_in_short=is_in_short,
    )


def _strategy(name: str, *, only: str | None = None, is_in_short: bool = False) -> Way:
    decoding = {"strategy": name}
    set_up = f"`stride serve`, every request with `decoding.strategy` {name}"
    return _stride(f"Stride, {name}", set_up, decoding, only=only, is_in_short=is_in_short)


AUTO = _stride(
    "Stride",
    "`stride serve` with its defaults; every request with `decoding.lossless`",
    {"lossless": True},
    is_in_short=True,
)
POINTS = _stride(
    "Stride, points allowed",
    "`stride serve` with its defaults: `auto` may answer in points, side by side",
    {},
    only=LIST,
    is_in_short=True,
)
PLAIN = _strategy("autoregressive", is_in_short=True)
LOSSLESS = tuple(_strategy(name) for name in ("reference", "lookahead", "jacobi"))
SKELETON = _strategy("skeleton", only=LIST)

LLAMA = Way(
    "llama.cpp",
    "llama.cpp",
    "llama.cpp",
    f"its own server, the GGUF file as it is ({QUANTISATION}), 16 slots, no speculation",
    _WITH_USAGE,
)
LLAMA_NGRAMS = Way(
    "llama.cpp, n-grams",
    "llama.cpp",
    "llama.cpp, n-grams",
    "the same with `--spec-type ngram-simple`, its best mode without a draft model: 4 tokens that"
    " agree, 16 copied",
    _WITH_USAGE,
)
SERVE = Way(
    "transformers serve",
    "transformers",
    "transformers serve",
    "`transformers serve --dtype bfloat16`: one request at a time",
    takes_streams=False,
    usage_is_forwards=True,
)
LOOKUP = Way(
    "transformers, prompt lookup",
    "transformers",
    "transformers serve",
    f"the same server, every request with `prompt_lookup_num_tokens` {PROMPT_LOOKUP_TOKENS}",
    {"generation_config": json.dumps(_LOOKUP)},
    takes_streams=False,
    usage_is_forwards=True,
)
BATCHING = Way(
    "transformers, continuous batching",
    "transformers",
    "transformers, continuous batching",
    "`transformers serve --dtype bfloat16 --continuous-batching`",
)

STRATEGIES = (PLAIN, *LOSSLESS)  # that `auto` is compared with
OWN = (AUTO, POINTS, PLAIN, *LOSSLESS, SKELETON)
PEERS = (LLAMA, LLAMA_NGRAMS, SERVE, LOOKUP, BATCHING)


def of_url(name: str, url: str) -> Way:
    """A server that runs already, wherever it is."""
    return Way(name, "URL", name, f"at {url}, as it was found", _WITH_USAGE)


def all_ways(urls: Mapping[str, str], *, is_short: bool) -> list[Way]:
    """Everyone, in the order of the tables."""
    ways: Sequence[Way] = (*OWN, *PEERS)
    named = [of_url(name, url) for name, url in urls.items()]
    return [*(way for way in ways if way.is_in_short or not is_short), *named]
