"""From a directory with a model to a checked engine, and the facts about it."""

import math
from pathlib import Path
from time import perf_counter

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

from decoding import exactness, strategies
from decoding.architecture import CacheGeometry, refuse_unsupported
from decoding.engine import Engine
from decoding.exactness import Exactness
from decoding.options import DTypeName, LoadOptions
from decoding.probe import probed_runner
from decoding.report import EngineInfo
from decoding.runner import BLOCK_SIZE

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_MOST_CACHE_TOKENS = 65_536
_CACHE_SHARE = {"cpu": 0.15, "cuda": 0.8}  # of the memory that is free once the model is loaded


def load_engine(directory: Path, name: str, options: LoadOptions) -> tuple[Engine, EngineInfo]:
    """Load the model in ``directory``, check its exactness here, and describe the result.

    Raises:
        UnsupportedModel: the architecture cannot be served exactly.
        OSError, ValueError: the files are not a model.
    """
    started = perf_counter()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = _device(options.device)
    model = load_model(directory, _dtype(options.dtype, device), device)
    num_blocks = _num_blocks(model, options)
    runner = probed_runner(model, num_blocks, context_length=options.context_length)
    found = exactness.check(runner) if options.self_check else exactness.unchecked(runner)
    eos = _eos(directory)
    engine = Engine(runner, tokenizer=_tokenizer(directory), eos=eos, limits=options.limits)
    return engine, _info(engine, name, found, perf_counter() - started)


def load_model(directory: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a model in Hugging Face layout.

    Raises:
        UnsupportedModel: the architecture cannot be served exactly.
    """
    refuse_unsupported(AutoConfig.from_pretrained(directory))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, use_safetensors=True)
    return model.to(device)


def _info(engine: Engine, name: str, found: Exactness, seconds: float) -> EngineInfo:
    runner = engine.runner
    return EngineInfo(
        model=name,
        architecture=type(runner.model).__name__,
        dtype=str(runner.dtype).removeprefix("torch."),
        device=str(runner.device),
        threads=torch.get_num_threads(),
        parameters=runner.num_parameters,
        vocabulary_size=runner.vocabulary_size,
        context_length=engine.context_length,
        cache_tokens=engine.pool.capacity,
        cache_bytes=runner.cache_bytes,
        strategies=strategies.names(),
        eos_token_ids=engine.eos,
        bit_exact=found.bit_exact,
        exactness=found.statement,
        load_seconds=seconds,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


def _dtype(name: DTypeName, device: torch.device) -> torch.dtype:
    """bfloat16 wherever it is native: it halves what a step reads from memory."""
    if name != "auto":
        return _DTYPES[name]
    native = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _num_blocks(model: PreTrainedModel, options: LoadOptions) -> int:
    """Blocks of the cache, the null block included."""
    tokens = options.cache_tokens or _cache_tokens_that_fit(model)
    return tokens // BLOCK_SIZE + 1


def _cache_tokens_that_fit(model: PreTrainedModel) -> int:
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
    else:
        free = psutil.virtual_memory().available
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
