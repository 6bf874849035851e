"""A program: llama.cpp's own HTTP server, run by a Python that has xllamacpp and nothing of ours.

``python llama_cpp_server.py GGUF PORT THREADS SLOTS [SPECULATION [remembers]]`` listens until it is
ended.
"""

import signal
import sys
from typing import Any

import xllamacpp  # type: ignore[import-not-found]

# What one slot holds: the longest prompt and its answer.
_SLOT_TOKENS = 1536


def settings(
    gguf: str,
    port: int,
    threads: int,
    slots: int,
    speculation: str = "none",
    *,
    remembers: bool = False,
) -> Any:
    """Its defaults, but for what has to be the same for all, and unless it remembers its cache.

    ``speculation`` is what its command line calls ``--spec-type``, with sizes behind it where they
    are not the default's: ``ngram-simple:size_n=4,size_m=16``.
    """
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.port = port
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_parallel = slots
    params.n_ctx = slots * _SLOT_TOKENS  # divided among the slots
    if not remembers:  # no prompt comes twice: copying finished ones would only cost time
        params.cache_ram_mib = 0
    if speculation != "none":
        kind, _, sizes = speculation.replace("-", "_").partition(":")
        chosen = getattr(
            xllamacpp.common_speculative_type, f"COMMON_SPECULATIVE_TYPE_{kind.upper()}"
        )
        params.speculative.types = [chosen]
        for name, value in (size.split("=") for size in sizes.split(",") if size):
            setattr(getattr(params.speculative, kind), name, int(value))
    return params


def main(
    gguf: str, port: str, threads: str, slots: str, speculation: str = "none", remembers: str = ""
) -> None:
    """Serve. The server runs in threads of its own, for as long as the object lives."""
    chosen = settings(
        gguf, int(port), int(threads), int(slots), speculation, remembers=bool(remembers)
    )
    server = xllamacpp.Server(chosen)
    print(f"listening on {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
