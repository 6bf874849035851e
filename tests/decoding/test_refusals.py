"""What cannot be served exactly is refused at load, with a sentence that says why."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    BartConfig,
    BertConfig,
    BloomConfig,
    DeepseekV3Config,
    DiffLlamaConfig,
    Gemma3TextConfig,
    Gemma4TextConfig,
    GPT2Config,
    GptOssConfig,
    JambaConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MptConfig,
    NemotronConfig,
    PretrainedConfig,
    Qwen2MoeConfig,
    Qwen3NextConfig,
    ViTConfig,
)

from decoding.architecture import UnsupportedModel, refuse_unsupported
from decoding.eager.attention import NAME, attend
from decoding.eager.computation import EagerComputation
from decoding.load import load_engine
from decoding.options import LoadOptions
from decoding.probe import probed_runner
from decoding.runner import Runner
from tests.decoding.tiny_models import FAMILIES, GROUPED, WINDOW, longrope, tiny_model

BY_CONFIGURATION = [
    (BartConfig, "is an encoder-decoder"),
    (ViTConfig, "is not one of transformers' causal"),
    (MambaConfig, "keeps a recurrent state"),
    (JambaConfig, "keeps a recurrent state"),
    (Qwen3NextConfig, "keeps a recurrent state"),
    (Llama4TextConfig, "has chunked_attention layers"),
    (BloomConfig, "computes attention in its own code"),
    (MptConfig, "computes attention in its own code"),
    (Gemma4TextConfig, "has layers of different shapes"),
]

EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
BY_PROBE: dict[str, tuple[Callable[[], PretrainedConfig], str]] = {
    "attention sinks": (
        lambda: GptOssConfig(**GROUPED, head_dim=16, num_local_experts=4, num_experts_per_tok=2),
        "its attention asks for s_aux",
    ),
    "compressed keys": (
        lambda: DeepseekV3Config(
            **{**GROUPED, "num_key_value_heads": 4, "first_k_dense_replace": 3},
            q_lora_rank=None,
            kv_lora_rank=16,
            qk_nope_head_dim=16,
            qk_rope_head_dim=8,
            v_head_dim=16,
        ),
        "differ in the number or size of key-value heads",
    ),
    "both directions": (
        lambda: BertConfig(**{**GROUPED, "pad_token_id": 0}),
        "its attention looks at later tokens too",
    ),
    "both directions by choice": (
        lambda: Gemma3TextConfig(**GROUPED, head_dim=16, use_bidirectional_attention=True),
        "its attention looks at later tokens too",
    ),
    "arguments not handed on": (
        lambda: NemotronConfig(**GROUPED),
        "does not hand our arguments on",
    ),
    "a window that attention is not told": (
        lambda: Qwen2MoeConfig(
            **GROUPED,
            **EXPERTS,
            num_experts=4,
            shared_expert_intermediate_size=32,
            use_sliding_window=True,
            sliding_window=64,
            max_window_layers=1,
        ),
        "does not reproduce its own",
    ),
    "other mathematics": (
        lambda: DiffLlamaConfig(**GROUPED),
        "does not reproduce its own",
    ),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("config", "reason"), BY_CONFIGURATION)
def test_a_configuration_that_cannot_be_right_is_refused(
    config: type[PretrainedConfig], reason: str
) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        refuse_unsupported(config())


@pytest.mark.parametrize(("config", "reason"), BY_PROBE.values(), ids=BY_PROBE)
def test_a_model_that_our_attention_does_not_reproduce_is_refused(
    config: Callable[[], PretrainedConfig], reason: str
) -> None:
    with pytest.raises(UnsupportedModel, match=f"cannot be served: .*{reason}"):
        probed_runner(tiny_model(config()), num_blocks=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_probe_lets_every_family_pass(family: str, dtype: torch.dtype) -> None:
    probed_runner(tiny_model(FAMILIES[family](), dtype), num_blocks=4)


def test_learned_positions_are_served() -> None:
    """They have no rotary embedding, but their position ids are ours too."""
    model = tiny_model(GPT2Config(vocab_size=101, n_embd=48, n_layer=2, n_head=4, n_positions=20))
    assert probed_runner(model, num_blocks=4).context_length == 20


def test_a_model_that_keeps_its_own_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers only logs a warning when it cannot replace a model's attention."""
    model = tiny_model(LlamaConfig(**GROUPED))
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", lambda *_: False)
    with pytest.raises(UnsupportedModel, match="does not let its attention be replaced"):
        Runner(EagerComputation(model), num_blocks=4)


def _without_window(*args: object, sliding_window: object, **others: object) -> object:
    return attend(*args, **others)  # type: ignore[arg-type]


def _without_softcap(*args: object, softcap: object, **others: object) -> object:
    return attend(*args, **others)  # type: ignore[arg-type]


def _without_scaling(*args: object, scaling: object, **others: object) -> object:
    return attend(*args, scaling=1.0, **others)  # type: ignore[arg-type]


def _with_keys_of_the_next_row(
    module: nn.Module, query: Tensor, key: Tensor, *args: object, **others: object
) -> object:
    return attend(module, query, key.roll(1, 2), *args, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("family", "mistake"),
    [
        ("mistral", _without_window),
        ("gemma2", _without_window),
        ("gemma2", _without_softcap),
        ("llama", _without_scaling),
        ("gpt-neox", _with_keys_of_the_next_row),
    ],
)
def test_the_probe_finds_mistakes_in_attention(
    family: str, mistake: Callable[..., object], dtype: torch.dtype
) -> None:
    AttentionInterface.register(NAME, mistake)
    try:
        with pytest.raises(UnsupportedModel, match="does not reproduce its own"):
            probed_runner(tiny_model(FAMILIES[family](), dtype), num_blocks=4)
    finally:
        AttentionInterface.register(NAME, attend)


def test_the_probe_leaves_windows_as_they_were() -> None:
    model = probed_runner(tiny_model(FAMILIES["mistral"]()), num_blocks=4).computation.model
    assert model.config.sliding_window == WINDOW


def test_a_refusal_leaves_windows_as_they_were() -> None:
    config, _ = BY_PROBE["attention sinks"]
    model = tiny_model(config())
    with pytest.raises(UnsupportedModel):
        probed_runner(model, num_blocks=4)
    assert model.config.sliding_window == config().sliding_window


def test_loading_probes(tmp_path: Path) -> None:
    tiny_model(BY_PROBE["attention sinks"][0]()).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="s_aux"):
        load_engine(tmp_path, "tiny", LoadOptions(cache_tokens=64, dtype="fp32"))


def test_a_rotary_embedding_that_changes_is_served_up_to_where_it_does() -> None:
    """Past that point one long text would turn the positions of all others in its batch."""
    assert Runner(EagerComputation(tiny_model(longrope())), num_blocks=4).context_length == 128


def test_a_longer_context_than_the_model_has_is_refused() -> None:
    computation = EagerComputation(tiny_model(LlamaConfig(**GROUPED)))
    with pytest.raises(ValueError, match="at most 256"):
        Runner(computation, num_blocks=4, context_length=257)
