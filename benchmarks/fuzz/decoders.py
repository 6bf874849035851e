"""What reads bytes of others, fed with bytes that are nearly right: frames, bodies, streams."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple

import httpx
import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.fuzz.bodies import ODD
from benchmarks.fuzz.contract import BODIES, CHAT, fault_in_error
from decoding.options import Limits, LoadOptions
from decoding.report import StepReport
from decoding.request import Output, Request, Sampling, Stopping, TokenLogprob
from server.errors import ApiError
from server.frames import (
    Abort,
    Beat,
    Failed,
    FrameError,
    FrameReader,
    FromWorker,
    LoadModel,
    Stepped,
    Submit,
    ToWorker,
    encode,
)
from server.json_body import decode_object
from server.metrics import Metrics
from server.strict_body import parse
from server.upstream.app import create_app
from server.upstream.choice import STRATEGIES
from server.upstream.client import Target, Upstream
from server.upstream.metrics import CallMetrics

_EXAMPLES_A_ROUND = 1000
_UPSTREAM_STATUSES = {200, 400, 408, 429, 500, 502, 503, 504}

# --- frames between the processes ---

_REQUEST = Request(
    id="cmpl-1-0",
    prompt=(1, 2, 3),
    sampling=Sampling(temperature=0.7, logit_bias={5: -100.0}, seed=2**63 - 1),
    stopping=Stopping(max_tokens=5, stop=("end",), stop_token_ids=(7,)),
    options={"window": 4, "share": 0.5},
)
_OUTPUT = Output(
    request_id="cmpl-1-0",
    tokens=(4, 5),
    text="é",
    logprobs=(TokenLogprob(4, -0.5, ((4, -0.5), (9, float("-inf")))),),
    finish_reason="stop",
)
_FRAMES: tuple[ToWorker | FromWorker, ...] = (
    LoadModel("/models/tiny", "tiny", LoadOptions(threads=1, limits=Limits(running=2))),
    Submit(_REQUEST),
    Abort("cmpl-1-0"),
    Stepped(StepReport(outputs=[_OUTPUT], running=2, rows=7)),
    Beat(2.5),
    Failed("no such model"),
)
_TAGS = ("load_model", "submit", "abort", "ready", "stepped", "beat", "failed")


def damaged(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes of which some are replaced, left out, doubled, or have others between them."""
    edits = st.lists(
        st.tuples(st.integers(0), st.integers(0, 12), st.binary(max_size=6)), max_size=6
    )
    return st.builds(_damage, whole, edits)


def _damage(whole: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    for position, length, put in edits:
        at = position % (len(whole) + 1)
        whole = whole[:at] + put + whole[at + length :]
    return whole


def _payload(tree: dict[str, Any]) -> bytes:
    try:
        content = msgspec.msgpack.encode(tree)
    except (OverflowError, UnicodeEncodeError):  # numbers and texts that msgpack has no form for
        content = b"\x80"
    return len(content).to_bytes(4, "big") + content


_TREES = st.builds(
    lambda tag, fields: _payload({"type": tag, **fields}),
    st.sampled_from(_TAGS),
    st.dictionaries(st.sampled_from(("request", "report", "engine", "seconds", "message")), ODD),
)
FRAMES = st.one_of(
    st.binary(max_size=200), damaged(st.sampled_from(list(map(encode, _FRAMES)))), _TREES
)


def read_frames(sent: tuple[bytes, int]) -> None:
    """Feed a reader of either side in two pieces. It says frames, or that it is none."""
    stream, cut = sent
    at = cut % (len(stream) + 1)
    for side in (ToWorker, FromWorker):
        reader: FrameReader[Any] = FrameReader(side)
        try:
            reader.feed(stream[:at])
            reader.feed(stream[at:])
        except FrameError:
            continue


# --- bodies of requests ---

_TEXTS = [
    json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi 🙂"}], "n": 1}),
    json.dumps({"model": "m", "prompt": ["a", "b"], "logit_bias": {"5": -1.5}, "stop": ["x"]}),
    json.dumps({"prompt": "é", "model": None}, ensure_ascii=False),
    json.dumps({"tokens": [1, 2, 3]}),
    '{"a": [[[[1e5, -0.0, true, null, "\\ud83d\\ude42"]]]], "a": 2}',
]


_FIELDS = ("model", "prompt", "messages", "tokens", "stop", "n", "decoding", "documents")


def _as_json(value: object) -> bytes:
    return json.dumps(value).encode()


BODY_BYTES = st.one_of(
    st.binary(max_size=200),
    damaged(st.sampled_from([text.encode() for text in _TEXTS])),
    st.dictionaries(
        st.sampled_from(
            ("model", "prompt", "messages", "tokens", "stop", "n", "decoding", "documents")
        ),
        ODD,
    ).map(_as_json),
)


def read_body(sent: bytes) -> None:
    """Read a body as each endpoint does. What it refuses has a status below 500."""
    try:
        raw = decode_object(sent)
    except ApiError as error:
        _check(error)
        return
    for body_type in BODIES.values():
        try:
            parse(body_type, raw)
        except ApiError as error:
            _check(error)


def _check(error: ApiError) -> None:
    assert error.status == 400, error.status
    fault = fault_in_error(bytes(error.response().body))
    assert not fault, fault


# --- streams of an upstream ---

_CHUNKS = [
    'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
    'data: {"choices":[{"index":0,"delta":{"content":"1. Water"},"finish_reason":null}]}\n\n',
    'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n',
    'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n',
    'data: {"error":{"message":"no","type":"server_error","param":null,"code":null}}\n\n',
    ": a comment\n\n",
    "event: x\nid: 1\nretry: 5\ndata: {}\ndata: {}\n\n",
    "data: [DONE]\n\n",
]
_STREAMS = st.lists(st.sampled_from(_CHUNKS), max_size=6).map(
    lambda chunks: "".join(chunks).encode()
)
_EVENTS = ODD.map(lambda value: b"data: " + _as_json(value) + b"\n\ndata: [DONE]\n\n")


class Streamed(NamedTuple):
    """What an upstream says, and how it is asked."""

    content: bytes
    cut: int
    status: int
    is_stream: bool  # what our client asked for
    kind: str
    strategy: str


STREAMED = st.builds(
    Streamed,
    content=st.one_of(st.binary(max_size=200), damaged(_STREAMS), _EVENTS, ODD.map(_as_json)),
    cut=st.integers(0),
    status=st.sampled_from((200, 200, 200, 200, 400, 500)),
    is_stream=st.booleans(),
    kind=st.sampled_from(("text/event-stream", "text/event-stream", "application/json", "text/x")),
    strategy=st.sampled_from(STRATEGIES),
)


class UpstreamReader:
    """Our server over an upstream that says anything."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._said = Streamed(b"", 0, 200, False, "", "")
        metrics = Metrics("theirs", STRATEGIES)
        target = Target(base="http://upstream", model="theirs", retries=0)
        upstream = Upstream(target, CallMetrics(metrics), httpx.MockTransport(self._upstream))
        app = create_app(upstream=upstream, model_names=["theirs"], metrics=metrics)
        transport = httpx.ASGITransport(app)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://test")

    def read(self, said: Streamed) -> None:
        """Have it say this. Our client gets an answer or an error in the shape of ours."""
        self._said = said
        body = {
            "model": "theirs",
            "messages": [{"role": "user", "content": "What should I pack for a hike?"}],
            "stream": said.is_stream,
            "decoding": {"strategy": said.strategy},
        }
        response = self._runner.run(self._http.post(CHAT, json=body))
        assert response.status_code in _UPSTREAM_STATUSES, response.text
        if response.status_code != 200:
            fault = fault_in_error(response.content)
            assert not fault, fault
        if response.status_code == 500:  # it may be the upstream's own, but not a bug of ours
            assert "internal_error" not in response.text, response.text

    def close(self) -> None:
        """End the loop."""
        self._runner.close()

    def _upstream(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "theirs"}]})
        said = self._said
        return httpx.Response(said.status, headers={"content-type": said.kind}, stream=_Cut(said))


class _Cut(httpx.AsyncByteStream):
    def __init__(self, said: Streamed) -> None:
        self._said = said

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at = self._said.cut % (len(self._said.content) + 1)
        yield self._said.content[:at]
        yield self._said.content[at:]


# --- all of them ---


class Decoded(NamedTuple):
    """How often a decoder was fed, and the first thing that went wrong."""

    name: str
    examples: int
    fault: str


def fuzz(seconds: float, begin: Callable[[str], None]) -> list[Decoded]:
    """Feed every decoder for so long."""
    upstream = UpstreamReader()
    targets: list[tuple[str, st.SearchStrategy[Any], Callable[[Any], None]]] = [
        ("frames between the processes", st.tuples(FRAMES, st.integers(0)), read_frames),
        ("bodies of requests", BODY_BYTES, read_body),
        ("streams of an upstream", STREAMED, upstream.read),
    ]
    found = []
    for name, inputs, check in targets:
        begin(name)
        found.append(feed(name, inputs, check, seconds))
    upstream.close()
    return found


def feed(
    name: str, inputs: st.SearchStrategy[Any], check: Callable[[Any], None], seconds: float
) -> Decoded:
    """Feed one, in rounds of other numbers, until the time is over or something goes wrong."""
    ends, examples, number = time.monotonic() + seconds, 0, 0

    def counted(value: Any) -> None:
        nonlocal examples
        examples += 1
        check(value)

    while time.monotonic() < ends:
        number += 1
        one_round = settings(
            max_examples=_EXAMPLES_A_ROUND,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(seed(number)(given(inputs)(counted)))
        try:
            one_round()
        except Exception as error:  # whatever it is, it is what we were looking for
            notes = " ".join(getattr(error, "__notes__", ()))
            return Decoded(name, examples, f"{type(error).__name__}: {error} {notes}"[:2000])
    return Decoded(name, examples, "")
