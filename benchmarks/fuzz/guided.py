"""The same readers, fed by atheris, which looks where each input leads: a program of its own.

``python -m benchmarks.fuzz.guided bodies 60`` feeds one of them for so many seconds.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec

TARGETS = ("frames", "bodies", "streams")


def is_installed() -> bool:
    """Whether there is atheris at all."""
    return find_spec("atheris") is not None


def main() -> None:
    """Feed until the time is over; whatever the reader raises ends the program."""
    import atheris

    name, seconds = sys.argv[1:]
    with atheris.instrument_imports(include=["server", "httpx_sse"]):
        read = _reader(name)
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=600"], read)
    atheris.Fuzz()


def _reader(name: str) -> Callable[[bytes], None]:
    from benchmarks.fuzz.decoders import Streamed, UpstreamReader, read_body, read_frames
    from server.upstream.choice import STRATEGIES

    if name == "frames":
        return lambda given: read_frames((given[1:], given[0] if given else 0))
    if name == "bodies":
        return read_body
    upstream = UpstreamReader()

    def read_stream(given: bytes) -> None:
        first, content = given[0] if given else 0, given[1:]
        kind = "text/event-stream" if first & 1 else "application/json"
        strategy = STRATEGIES[(first >> 2) % len(STRATEGIES)]
        upstream.read(Streamed(content, first, 200, bool(first & 2), kind, strategy))

    return read_stream


if __name__ == "__main__":
    main()
