"""From a directory with a model to a checked engine, and the facts about it."""

import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
)

from decoding import allowance, cost, exactness, strategies
from decoding.architecture import CacheGeometry, UnsupportedModel, refuse_unsupported
from decoding.engine import Engine
from decoding.exactness import Exactness
from decoding.governor import Governor
from decoding.hot_start import hot_start
from decoding.native.computation import NativeComputation
from decoding.native.decoder import refuse_foreign
from decoding.native.library import NoKernels, instructions, library
from decoding.options import DTypeName, Format, LoadOptions, default_cache_dir
from decoding.probe import probed_runner
from decoding.report import EngineInfo
from decoding.runner import BLOCK_SIZE, Runner

_DTYPES = {"int8": torch.bfloat16, "bf16": torch.bfloat16, "fp32": torch.float32}
_MOST_CACHE_TOKENS = 65_536
_CACHE_SHARE = {"cpu": 0.15, "cuda": 0.8}  # of the memory that is free once the model is loaded


def load_engine(directory: Path, name: str, options: LoadOptions) -> tuple[Engine, EngineInfo]:
    """Load the model in ``directory``, check its exactness here, and describe the result.

    Raises:
        UnsupportedModel: the architecture cannot be served exactly.
        OSError, ValueError: the files are not a model.
    """
    started = perf_counter()
    threads = options.threads or _threads_allowed()
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    runner, facts = _runner(directory, options)
    found = exactness.check(runner) if options.self_check else exactness.UNCHECKED
    engine = new_engine(runner, directory, options)
    return engine, _info(engine, {"model": name, **facts}, found, perf_counter() - started)


def new_engine(runner: Runner, directory: Path, options: LoadOptions) -> Engine:
    """An engine that has everything yet to learn: what forwards cost, what drafts are worth."""
    tokenizer = _tokenizer(directory)
    line_break = tokenizer.encode("\n").ids
    return Engine(
        runner,
        tokenizer=tokenizer,
        eos=_eos(directory),
        limits=options.limits,
        cost=cost.measure(runner),
        governor=Governor(),
        successors=hot_start(runner, line_break, directory, _cache_dir(options)),
    )


def load_model(directory: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a model in Hugging Face layout.

    Raises:
        UnsupportedModel: the architecture cannot be served exactly.
    """
    refuse_unsupported(AutoConfig.from_pretrained(directory))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, use_safetensors=True)
    return model.to(device)


def _runner(directory: Path, options: LoadOptions) -> tuple[Runner, dict[str, Any]]:
    """A runner of the model in a directory, and what is known of the model.

    Unless the runner needs it, the model as it was loaded is given up.
    """
    device = _device(options.device)
    load = partial(load_model, directory, _dtype(options.dtype, device), device)
    model = load()
    runner, kernels = _fastest(model, load, options)
    return runner, {
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
        "kernels": kernels,
    }


def _fastest(
    model: PreTrainedModel, load: Callable[[], PreTrainedModel], options: LoadOptions
) -> tuple[Runner, str]:
    """The fastest runner that computes what the model does, and whose kernels it uses.

    Raises:
        UnsupportedModel: there is none, or none in the number format asked for.
    """
    num_blocks = _num_blocks(model, options)
    make = partial(probed_runner, num_blocks=num_blocks, context_length=options.context_length)
    try:
        refuse_foreign(model)  # before anything is compiled for it
        kernels = library(_cache_dir(options))
        named = instructions(kernels)
        format = _native_format(options.dtype, model.dtype, has_instructions=bool(named))
        compute = partial(NativeComputation, format=format, kernels=kernels)
        return make(model, compute=compute), f"Stride's own ({named or 'no matrix instructions'})"
    except (NoKernels, UnsupportedModel) as reason:
        if options.dtype == "int8":
            raise UnsupportedModel(
                f"int8 takes Stride's own kernels, and {reason}; choose another dtype"
            ) from reason
        is_used_up = any(parameter.is_meta for parameter in model.parameters())
        return make(load() if is_used_up else model), f"transformers, because {reason}"


def _native_format(name: DTypeName, dtype: torch.dtype, *, has_instructions: bool) -> Format:
    """Eight bits wherever there are instructions for them: they halve what a step reads."""
    if name != "auto":
        return name
    if has_instructions:
        return "int8"
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def _info(engine: Engine, facts: dict[str, Any], found: Exactness, seconds: float) -> EngineInfo:
    runner = engine.runner
    return EngineInfo(
        **facts,
        dtype=runner.computation.format,
        device=str(runner.computation.device),
        threads=torch.get_num_threads(),
        vocabulary_size=runner.vocabulary_size,
        context_length=engine.context_length,
        cache_tokens=engine.pool.capacity,
        cache_bytes=runner.cache_bytes,
        strategies=strategies.names(),
        eos_token_ids=engine.eos,
        bit_exact=found.bit_exact,
        exactness=found.statement,
        load_seconds=seconds,
        resident_bytes=psutil.Process().memory_info().rss,
        cost=engine.cost.report() if engine.cost else None,
    )


def _cache_dir(options: LoadOptions) -> Path:
    return Path(options.cache_dir) if options.cache_dir else default_cache_dir()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


def _dtype(name: DTypeName, device: torch.device) -> torch.dtype:
    """What to load the parameters in: bfloat16 wherever it is native."""
    if name != "auto":
        return _DTYPES[name]
    native = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _threads_allowed() -> int:
    """One for every physical core, unless a container has the time of fewer."""
    return min(torch.get_num_threads(), allowance.processors() or sys.maxsize)


def _num_blocks(model: PreTrainedModel, options: LoadOptions) -> int:
    """Blocks of the cache, the null block included."""
    tokens = options.cache_tokens or _cache_tokens_that_fit(model, options.sharers)
    return tokens // BLOCK_SIZE + 1


def _cache_tokens_that_fit(model: PreTrainedModel, sharers: int) -> int:
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
    else:
        free = allowance.free_memory() // sharers
    slot_bytes = math.prod(CacheGeometry.of(model.config).shape(1)) * model.dtype.itemsize
    return min(int(free * _CACHE_SHARE[model.device.type] / slot_bytes), _MOST_CACHE_TOKENS)


def _eos(directory: Path) -> tuple[int, ...]:
    ids = GenerationConfig.from_pretrained(directory).eos_token_id
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)


def _tokenizer(directory: Path) -> Tokenizer:
    file = directory / "tokenizer.json"
    if file.exists():
        return Tokenizer.from_file(str(file))
    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(directory).backend_tokenizer
    return tokenizer
