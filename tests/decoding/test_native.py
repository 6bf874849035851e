"""The kernels compute what the model does, a row at a time whatever is beside it."""

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model
from torch import Tensor
from transformers import (
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from decoding import exactness
from decoding.architecture import UnsupportedModel
from decoding.load import load_engine
from decoding.native import library as native_library
from decoding.native.computation import NativeComputation
from decoding.native.decoder import refuse_foreign
from decoding.native.library import NoKernels, library
from decoding.options import Format, LoadOptions
from decoding.probe import probed_runner
from decoding.runner import Runner
from decoding.segment import Segment

VOCABULARY = 101  # no multiple of a panel's columns
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 192,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "llama with biases": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "llama 3's rotation": LlamaConfig(
        **SHAPE,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "tied": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE),
    "every head its own keys": LlamaConfig(**{**SHAPE, "num_key_value_heads": 6}),
    "one head of keys": LlamaConfig(**{**SHAPE, "num_key_value_heads": 1}),
    "wide heads": LlamaConfig(**{**SHAPE, "num_attention_heads": 2, "head_dim": 128}),
}
# Of the spread of the logits, root mean square.
CLOSE: dict[Format, float] = {"fp32": 1e-5, "bf16": 0.02, "int8": 0.06}
FORMATS: tuple[Format, ...] = ("int8", "bf16", "fp32")


def computed(config: PretrainedConfig, format: Format) -> Runner:
    return Runner(NativeComputation(tiny_model(config), format, library()), num_blocks=40)


def own_logits(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return logits.float()


def chain(tokens: list[int], slots: np.ndarray, start: int = 0) -> Segment:
    return Segment(tokens, range(-1, len(tokens) - 1), start, slots, 0)


def distance(logits: Tensor, expected: Tensor) -> float:
    return float((logits - expected).pow(2).mean().sqrt() / expected.std())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_models_own(family: str, format: Format) -> None:
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, 70).tolist()
    logits = computed(FAMILIES[family], format).forward([chain(tokens, np.arange(16, 86))])
    assert distance(logits, own_logits(tiny_model(FAMILIES[family]), tokens)) < CLOSE[format]


@pytest.mark.parametrize("format", FORMATS)
def test_the_probe_accepts_the_kernels(format: Format) -> None:
    model = tiny_model(FAMILIES["llama"])
    probed_runner(model, 8, compute=partial(NativeComputation, format=format, kernels=library()))


@pytest.mark.parametrize("format", FORMATS)
def test_the_self_check_passes(format: Format) -> None:
    assert exactness.check(computed(FAMILIES["qwen3"], format)).bit_exact


# --- bits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=FORMATS)
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)  # more than there are key-value heads, or cores
    yield computed(FAMILIES["llama"], request.param)
    torch.set_num_threads(threads)


@st.composite
def trees(draw: st.DrawFn, most: int) -> tuple[int, list[int], list[int]]:
    """Cached tokens, then the tokens and parents of a tree."""
    start = draw(st.integers(0, 40))
    size = draw(st.integers(1, most))
    tokens = draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=size, max_size=size))
    parents = [draw(st.integers(-1, node - 1)) for node in range(size)]
    return start, tokens, parents


def path_to(node: int, parents: list[int]) -> list[int]:
    path = [node]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    return path[::-1]


# Attention takes few sequences a head at a time, small trees of many several heads at a time.
BATCHES = st.lists(trees(24), min_size=1, max_size=4) | st.lists(trees(2), min_size=3, max_size=8)


@settings(max_examples=25)
@given(BATCHES, st.sampled_from([1, 15, 16]))
def test_a_row_has_the_bits_it_has_alone(
    runner: Runner, batch: list[tuple[int, list[int], list[int]]], run: int
) -> None:
    """In trees, beside other sequences, over scattered slots: as one token after the other.

    As many as ``run`` lie together: sixteen keys in a row are read another way than fewer.
    """
    prefix = list(range(3, 43))
    runs = np.random.default_rng(len(batch)).permutation(np.arange(96, 576).reshape(-1, run))
    free = iter(runs.reshape(-1, 16))
    segments = []
    for start, tokens, parents in batch:
        needed = -(-(start + len(tokens)) // 16)
        slots = np.concatenate([next(free) for _ in range(needed)])[: start + len(tokens)]
        if start:
            runner.forward([chain(prefix[:start], slots[:start])])
        segments.append(Segment(tokens, parents, start, slots, 0))
    together = runner.forward(segments)
    ends = [0, *accumulate(len(tokens) for _, tokens, _ in batch)]
    for segment, first in zip(segments, ends, strict=False):
        for node in range(len(segment.tokens)):
            expected = alone(runner, prefix[: segment.start], segment, node)
            assert torch.equal(together[first + node], expected)


def alone(runner: Runner, prefix: list[int], segment: Segment, node: int) -> Tensor:
    """The logits after a node, its path decoded one token at a time in slots of its own."""
    path = [segment.tokens[i] for i in path_to(node, list(segment.parents))]
    slots = np.arange(16, 64 + 16)
    if prefix:
        runner.forward([chain(prefix, slots[: len(prefix)])])
    for position, token in enumerate(path, len(prefix)):
        logits = runner.forward([chain([token], slots[: position + 1], position)])
    return logits[0]


@pytest.mark.parametrize("vocabulary", [50, 64, 49_152, 50_001])
def test_the_largest_logits_are_found_equal_ones_in_order(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(5, vocabulary, generator=generator).round(decimals=1)
    logits[1] = 0.0
    logits[2] = float("-inf")
    logits[3, :-3] = logits[3].sort().values[:-3]
    found = computed(FAMILIES["llama"], "fp32").computation.likeliest(logits, 8)
    assert found.tolist() == (-logits).sort(stable=True).indices[:, :8].tolist()


def test_a_sequence_that_breaks_down_hurts_nobody(runner: Runner) -> None:
    """Its keys are NaN: its own logits are too, its neighbour's are the same bits as ever."""
    tokens = list(range(20))
    mine, broken = np.arange(64, 84), np.arange(128, 148)
    expected = runner.forward([chain(tokens, mine)])
    runner.cache[:, broken[:4]] = torch.nan
    bad = Segment([5], [-1], 19, broken, 0)
    logits = runner.forward([bad, chain(tokens, mine), bad._replace(tokens=[6])])
    runner.cache[:, broken] = 0
    assert logits[0].isnan().all()
    assert torch.equal(logits[1:21], expected)


def test_wanting_no_logits_is_fine(runner: Runner) -> None:
    segment = chain([1, 2, 3], np.arange(64, 67))._replace(logits_from=3)
    assert runner.forward([segment]).shape == (0, VOCABULARY)


# --- what they do not know -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Gemma2Config(**SHAPE), "Gemma2ForCausalLM"),
        (LlamaConfig(**SHAPE, hidden_act="gelu"), "activation gelu"),
        (MistralConfig(**SHAPE, sliding_window=8), "sliding window"),
        (LlamaConfig(**{**SHAPE, "hidden_size": 96}), "multiple of 64"),
        (LlamaConfig(**{**SHAPE, "num_attention_heads": 4, "head_dim": 16}), "multiple of 64"),
        (
            LlamaConfig(**{**SHAPE, "num_attention_heads": 24, "num_key_value_heads": 1}),
            "number of attention heads",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_kernels_do_not_compute_is_left_to_transformers(
    config: PretrainedConfig, reason: str
) -> None:
    with pytest.raises(NoKernels, match=reason):
        refuse_foreign(tiny_model(config))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    from tokenizers_in_memory import word_tokenizer

    tiny_model(FAMILIES["llama"]).save_pretrained(tmp_path)
    word_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_that_is_asked_for_is_used(saved: Path, format: Format) -> None:
    _, info = load_engine(saved, "tiny", LoadOptions(cache_tokens=640, dtype=format))
    assert info.kernels.startswith("Stride's own")
    assert info.dtype == {"int8": "int8", "bf16": "bfloat16", "fp32": "float32"}[format]
    assert info.bit_exact


def test_kernels_that_disagree_with_the_model_are_not_used(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = NativeComputation.logits

    def backwards(self: NativeComputation, segments: Sequence[Segment], cache: Tensor) -> Tensor:
        return compute(self, segments, cache).flip(-1)

    monkeypatch.setattr(NativeComputation, "logits", backwards)
    _, info = load_engine(saved, "tiny", LoadOptions(cache_tokens=640))
    assert info.kernels.startswith("transformers, because")
    assert "does not reproduce its own" in info.kernels


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    library.cache_clear()
    yield
    library.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_transformers_computes_and_the_summary_says_why(saved: Path) -> None:
    _, info = load_engine(saved, "tiny", LoadOptions(cache_tokens=640))
    assert info.dtype != "int8"
    assert "install g++" in info.kernels


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_int8_is_refused(saved: Path) -> None:
    with pytest.raises(UnsupportedModel, match="install g\\+\\+"):
        load_engine(saved, "tiny", LoadOptions(cache_tokens=640, dtype="int8"))


# --- other processors ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("-march=native", "-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16"),
        ("-march=x86-64-v3",),
    ],
    ids=["no matrix unit", "AVX2"],
)
def test_other_instructions_say_the_same(
    flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native_library, "PROCESSOR", flags)
    library.cache_clear()
    try:
        for format in FORMATS:
            test_logits_are_the_models_own("llama with biases", format)
            test_the_self_check_passes(format)
    finally:
        library.cache_clear()
