"""The kernels as a shared library: compiled for this processor when first used, then kept.

Nothing is linked that torch has not loaded already: its OpenMP runtime serves both, so that no two
sets of threads fight over the cores.
"""

import ctypes
import logging
import platform
import shutil
import subprocess
import tempfile
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_void_p,
)
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from decoding.options import default_cache_dir

logger = logging.getLogger(__name__)
_SOURCES = Path(__file__).parent / "kernels"
PROCESSOR = ("-march=native",)
_COMPILE = ("-std=c++20", "-O3", "-fPIC", "-fopenmp", "-Wno-psabi", "-c")
_LINK = ("-shared",)
_SECONDS = 300

PHASES = ("norm, encode", "qkv", "cache", "attention", "output", "gate, up", "down", "head")


class NoKernels(Exception):
    """The kernels cannot be used; the message says why, in a few words for the user."""


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class Shape(Structure):
    """``stride::Shape``: what a model's configuration says."""

    _fields_ = (
        *_fields(c_int32, "hidden intermediate vocabulary layers"),
        *_fields(c_int32, "heads kv_heads head_size rotary threads"),
        *_fields(c_float, "epsilon scaling"),
    )


class LayerSource(Structure):
    """``stride::LayerSource``: addresses of one layer's parameters, None where it has none."""

    _fields_ = (
        *_fields(c_void_p, "norm q k v q_bias k_bias v_bias q_norm k_norm o o_bias"),
        *_fields(c_void_p, "mlp_norm gate up down gate_bias up_bias down_bias"),
    )


class Batch(Structure):
    """``stride::Batch``: what a forward is to compute."""

    _fields_ = (
        *_fields(c_int32, "rows sequences wanted"),
        *_fields(c_void_p, "tokens positions parents counts starts slots outputs cache"),
        ("cache_slots", c_int64),
    )


@cache
def library(cache_dir: Path | None = None) -> ctypes.CDLL:
    """The library, compiled if it is not in the cache directory yet.

    Raises:
        NoKernels: this machine has no compiler, or it failed.
    """
    loaded = ctypes.CDLL(str(_built(cache_dir or default_cache_dir())))
    loaded.stride_new.restype = c_void_p
    loaded.stride_new.argtypes = [POINTER(Shape), c_int, c_int]
    loaded.stride_free.argtypes = [c_void_p]
    loaded.stride_add_layer.argtypes = [c_void_p, POINTER(LayerSource)]
    loaded.stride_set_ends.argtypes = [c_void_p] * 6
    loaded.stride_seconds.argtypes = [c_void_p]
    loaded.stride_seconds.restype = POINTER(c_double * len(PHASES))
    loaded.stride_instructions.restype = c_char_p
    loaded.stride_forward.argtypes = [c_void_p, POINTER(Batch), c_void_p]
    loaded.stride_likeliest.argtypes = [c_void_p, c_int, c_int, c_int, c_void_p]
    if not loaded.stride_ready():
        raise NoKernels("the system does not lend its matrix unit")
    return loaded


def instructions(library: ctypes.CDLL) -> str:
    """The instructions that make products of few bits cheap here: "AMX"; "" if there are none."""
    named: bytes = library.stride_instructions()
    return named.decode()


def _built(cache_dir: Path) -> Path:
    path = cache_dir / "kernels" / f"{_digest()}.so"
    if not path.exists():
        try:
            _build(path)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoKernels(f"they cannot be compiled: {error}") from error
    return path


def _digest() -> str:
    """Of all that the library depends on."""
    digest = sha256(repr((PROCESSOR, _COMPILE, _LINK, _processor())).encode())
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """What the compiler looks at: the library is only good for the processor it was made on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _build(path: Path) -> None:
    if platform.machine() != "x86_64":
        raise NoKernels(f"Stride has none for {platform.machine()} yet")
    compiler = shutil.which("g++")
    if compiler is None:
        raise NoKernels("there is no C++ compiler: install g++ for several times the speed")
    logger.info("compiling the kernels for this processor, once: about ten seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        compiled, linked = Path(beside, "library.o"), Path(beside, "library.so")
        _run(compiler, *PROCESSOR, *_COMPILE, _SOURCES / "library.cpp", "-o", compiled)
        _run(compiler, *_LINK, compiled, "-o", linked)
        linked.rename(path)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    if done.returncode:
        raise NoKernels(f"g++ failed: {done.stderr.strip()[-500:]}")
