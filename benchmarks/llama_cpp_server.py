"""A program: llama.cpp's own HTTP server, run by a Python that has xllamacpp and nothing of ours.

``python llama_cpp_server.py GGUF PORT THREADS SLOTS`` listens until it is ended.
"""

import signal
import sys
from typing import Any

import xllamacpp  # type: ignore[import-not-found]

# What one slot holds: the longest prompt and its answer.
_SLOT_TOKENS = 1536


def settings(gguf: str, port: int, threads: int, slots: int) -> Any:
    """Its defaults, but for what has to be the same for all, and for its caches of prompts."""
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.port = port
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_parallel = slots
    params.n_ctx = slots * _SLOT_TOKENS  # divided among the slots
    params.cache_ram_mib = 0  # no prompt comes twice: copying finished ones would only cost time
    return params


def main(gguf: str, port: int, threads: int, slots: int) -> None:
    """Serve. The server runs in threads of its own, for as long as the object lives."""
    server = xllamacpp.Server(settings(gguf, port, threads, slots))
    print(f"listening on {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
