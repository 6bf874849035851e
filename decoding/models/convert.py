"""A program: writes the model in a .gguf file as a Hugging Face directory, in bfloat16.

``python -m decoding.models.convert SOURCE DESTINATION`` reports on standard output, one JSON
object a line: ``{"done": 3, "total": 272}``, ``{"note": …}``, ``{"error": …}``.
"""

import errno
import json
import sys
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

import torch
import transformers
from gguf import GGUFReader
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

# How a file names the way its text is cut before the merges (``tokenizer.ggml.pre``).
# transformers falls back to GPT-2's way for a name it does not know, and these names it does not
# know: they are GPT-2's way after every digit has been set apart.
DIGITS_APART = frozenset(
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
)
GPT2 = frozenset(("gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "granite-docling"))


def main(arguments: list[str]) -> int:
    """Convert, and report an error as the last line."""
    source, destination = map(Path, arguments)
    try:
        convert(source, destination)
    except Exception as problem:  # a damaged file can make four libraries raise anything
        report(error=sentence(problem))
        return 1
    return 0


def convert(source: Path, destination: Path) -> None:
    """Write weights, configuration, tokenizer and chat template."""
    metadata = read_metadata(source)
    model = load_model(source)
    write_weights(model, destination)
    write_config(model, destination)
    write_generation_config(model, metadata, destination)
    write_tokenizer(source, metadata, model.config.max_position_embeddings, destination)


def read_metadata(source: Path) -> dict[str, Any]:
    """Read the keys that transformers does not look at."""
    names = ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.eot_token_id")
    fields = GGUFReader(source).fields
    return {name: fields[name].contents() for name in names if name in fields}


def load_model(source: Path) -> Any:
    """Load the model with dense bfloat16 weights."""
    transformers.logging.disable_progress_bar()
    transformers.logging.set_tqdm_hook(counting_bar)
    return AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )


def counting_bar(bar: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Stand in for a progress bar of transformers: report each item of what it goes through."""
    if arguments and isinstance(arguments[0], Sized):
        arguments = (counted(arguments[0]), *arguments[1:])
    return bar(*arguments, **options)


def counted(items: Any) -> Iterator[Any]:
    """Yield the items, reporting how many are done."""
    for done, item in enumerate(items):
        report(done=done, total=len(items))
        yield item


def write_weights(model: Any, destination: Path) -> None:
    """Write every tensor once, as safetensors: output weights may be tied to the embeddings."""
    tensors: dict[str, torch.Tensor] = {}
    stored: set[int] = set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in stored:
            stored.add(tensor.data_ptr())
            tensors[name] = tensor.contiguous()
    path = destination / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    # safetensors lets only the owner read it; a cache may have been filled for other users.
    path.chmod(0o644)


def write_config(model: Any, destination: Path) -> None:
    """Write config.json without a trace of the quantized file."""
    config = public(model.config.to_diff_dict())
    config.pop("quantization_config", None)
    config |= {"architectures": [type(model).__name__], "dtype": "bfloat16"}
    write_json(config, destination / "config.json")


def public(config: dict[str, Any]) -> dict[str, Any]:
    """Drop what transformers notes for itself."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def write_generation_config(model: Any, metadata: dict[str, Any], destination: Path) -> None:
    """Write generation_config.json, where the end of a turn ends an answer as well."""
    config = public(model.generation_config.to_diff_dict())
    end_of_turn = metadata.get("tokenizer.ggml.eot_token_id")
    if end_of_turn is not None:
        ends = [config.get("eos_token_id"), end_of_turn]
        config["eos_token_id"] = sorted({token for token in ends if token is not None})
    write_json(config, destination / "generation_config.json")


def write_tokenizer(
    source: Path, metadata: dict[str, Any], context_length: int, destination: Path
) -> None:
    """Write the tokenizer and the chat template."""
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    repair_splitting(tokenizer, metadata)
    tokenizer.model_max_length = context_length
    tokenizer.save_pretrained(destination)
    path = destination / "tokenizer_config.json"
    config = json.loads(path.read_bytes())
    # These say how the .gguf file was read, not how to use the tokenizer.
    for key in ("is_local", "local_files_only"):
        config.pop(key, None)
    write_json(config | {"clean_up_tokenization_spaces": False}, path)


def repair_splitting(tokenizer: Any, metadata: dict[str, Any]) -> None:
    """Cut text the way the model was trained where transformers fell back to GPT-2's way."""
    splitting = metadata.get("tokenizer.ggml.pre")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or splitting in GPT2:
        return
    backend = tokenizer.backend_tokenizer
    if splitting in DIGITS_APART:
        digits = pre_tokenizers.Digits(individual_digits=True)
        gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, gpt2])
    elif isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        report(
            note=f"This file cuts text by a rule named {splitting!r} that is not known here; "
            "GPT-2's rule takes its place, so answers may be worse than the model's own"
        )


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sentence(problem: Exception) -> str:
    """Say in one line what went wrong."""
    full = isinstance(problem, OSError) and problem.errno == errno.ENOSPC
    if full or "os error 28" in str(problem):  # how safetensors spells it
        return "no space left on the device; free some, or choose another --cache-dir"
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


def report(**values: object) -> None:
    """Tell the parent process."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
