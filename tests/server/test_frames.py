"""Between the processes only whole, well-formed frames count; anything else is refused."""

import struct
import tracemalloc
from typing import Any

import pytest
from fakes import engine_info
from hypothesis import given
from hypothesis import strategies as st

from decoding.options import Limits, LoadOptions
from decoding.report import StepReport
from decoding.request import Output, Request, Sampling, Stopping, TokenLogprob
from server.frames import (
    MAX_FRAME_BYTES,
    Abort,
    Beat,
    Failed,
    FrameError,
    FrameReader,
    FromWorker,
    LoadModel,
    Ready,
    Stepped,
    Submit,
    ToWorker,
    encode,
)

REQUEST = Request(
    id="cmpl-1-0",
    prompt=(1, 2, 3),
    sampling=Sampling(temperature=0.7, logit_bias={5: -100.0}, seed=2**63 - 1),
    stopping=Stopping(max_tokens=5, stop=("ende 🙂",), stop_token_ids=(7,)),
    n=2,
    logprobs=3,
    options={"window": 4, "wide": True, "share": 0.5, "mode": "x"},
    cache_salt="tenant:salt",
)
OUTPUT = Output(
    request_id="cmpl-1-0",
    index=1,
    tokens=(4, 5),
    text="é🙂\x00",
    logprobs=(TokenLogprob(4, -0.5, ((4, -0.5), (9, float("-inf")))),),
    prompt_logprobs=(),
    steps=1,
    drafted=3,
    accepted=1,
    cached_tokens=16,
    queue_seconds=0.25,
    finish_reason="stop",
)
TO_WORKER = [
    LoadModel("/models/tiny", "tiny", LoadOptions(threads=1, limits=Limits(running=2)), "debug"),
    Submit(REQUEST),
    Abort("cmpl-1-0"),
]
FROM_WORKER = [
    Ready(engine_info()),
    Stepped(StepReport(outputs=[OUTPUT, Output(request_id="b", error="why")], running=2, rows=7)),
    Beat(2.5),
    Failed("no such model"),
]
DIRECTIONS = [(ToWorker, TO_WORKER), (FromWorker, FROM_WORKER)]


def framed(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


@pytest.mark.parametrize(("side", "frames"), DIRECTIONS)
def test_a_frame_arrives_as_it_was_sent(side: Any, frames: list[Any]) -> None:
    reader: FrameReader[Any] = FrameReader(side)
    assert [reader.feed(encode(frame)) for frame in frames] == [[frame] for frame in frames]


@given(st.lists(st.sampled_from(TO_WORKER), max_size=4), st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(frames: list[Any], data: st.DataObject) -> None:
    stream = b"".join(map(encode, frames))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader: FrameReader[Any] = FrameReader(ToWorker)
    read = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for frame in reader.feed(stream[start:end])
    ]
    assert read == frames


@pytest.mark.parametrize("side", [ToWorker, FromWorker])
@pytest.mark.parametrize("length", [MAX_FRAME_BYTES + 1, 2**31, 2**32 - 1])
def test_a_frame_over_the_limit_is_refused_unallocated(side: Any, length: int) -> None:
    reader: FrameReader[Any] = FrameReader(side)
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match=f"{length} bytes"):
            reader.feed(struct.pack("!I", length) + b"x")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_frame_the_other_side_would_refuse_is_not_sent() -> None:
    with pytest.raises(FrameError, match="is over"):
        encode(Failed("x" * MAX_FRAME_BYTES))


def test_text_that_cannot_be_encoded_is_not_sent() -> None:
    with pytest.raises(FrameError, match="surrogates"):
        encode(Abort("\ud800"))


@pytest.mark.parametrize("side", [ToWorker, FromWorker])
@given(noise=st.binary(max_size=300))
def test_noise_is_refused_or_not_yet_a_frame(side: Any, noise: bytes) -> None:
    try:
        frames = FrameReader[Any](side).feed(noise)
    except FrameError:
        return
    assert frames == []


@pytest.mark.parametrize("side", [ToWorker, FromWorker])
@given(payload=st.binary(max_size=300))
def test_a_payload_of_noise_is_refused(side: Any, payload: bytes) -> None:
    with pytest.raises(FrameError, match="malformed"):
        FrameReader[Any](side).feed(framed(payload))


@given(st.sampled_from(TO_WORKER), st.integers(0), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read(frame: Any, position: int, byte: int) -> None:
    """Never another exception than the one that is expected, whatever the bytes say."""
    payload = bytearray(encode(frame)[4:])
    payload[position % len(payload)] = byte
    try:
        assert len(FrameReader[Any](ToWorker).feed(framed(bytes(payload)))) == 1
    except FrameError as error:
        assert "malformed" in str(error)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        b"\x80",
        b"\x81\xa4type\xa7unknown",
        b"\x81\xa4type\xa5abort",
        b"\x82\xa4type\xa5abort\xaarequest_id\xa1\xff",
        b"\x82\xa4type\xa5abort\xa1x" + b"\x91" * 1_000_000,
        b"\x82\xa4type\xa5abort\xaarequest_id\xdd\xff\xff\xff\xff",
    ],
    ids=["empty", "null", "untagged", "unknown", "field", "utf-8", "nested", "promised"],
)
def test_what_is_no_frame_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError, match="malformed"):
        FrameReader[Any](ToWorker).feed(framed(payload))


@pytest.mark.parametrize(("side", "frames"), [(ToWorker, FROM_WORKER), (FromWorker, TO_WORKER)])
def test_frames_of_the_other_direction_are_refused(side: Any, frames: list[Any]) -> None:
    for frame in frames:
        with pytest.raises(FrameError):
            FrameReader[Any](side).feed(encode(frame))
