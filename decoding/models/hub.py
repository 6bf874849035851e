"""Models of the Hugging Face hub: safetensors weights, configuration and tokenizer only."""

from collections.abc import Callable, Sequence
from pathlib import Path

from decoding.models.files import ModelError

PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")
# Copies of the same weights in other layouts.
IGNORED = ("*/*", "consolidated*")
SECONDS_TO_ANSWER = 3.0

Snapshot = Callable[[str, Sequence[str]], Path]
"""Fetches the files of a model whose names match, and returns their directory."""


def snapshot(name: str, patterns: Sequence[str]) -> Path:
    """Fetch from the hub, or from its local cache when the hub cannot be reached."""
    # Imported late: nobody else needs an HTTP client to start.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=list(patterns),
                ignore_patterns=list(IGNORED),
                etag_timeout=SECONDS_TO_ANSWER,
            )
        )
    except HFValidationError as problem:
        raise ModelError(f"{name!r} is neither a path nor a hub name like owner/model") from problem
    except GatedRepoError as problem:
        raise ModelError(
            f"{name} asks for a licence to be accepted: do so at https://huggingface.co/{name}, "
            "then set HF_TOKEN"
        ) from problem
    except RepositoryNotFoundError as problem:
        raise ModelError(
            f"there is no model {name} on the Hugging Face hub (a private one needs HF_TOKEN), "
            "and no such directory here"
        ) from problem
    except LocalEntryNotFoundError as problem:
        raise ModelError(
            f"{name} is no local path, is not in the hub's local cache, and the Hugging Face hub "
            "cannot be reached; check the name and the network"
        ) from problem
    except HfHubHTTPError as problem:
        reason = str(problem).splitlines()[0]
        raise ModelError(f"the Hugging Face hub did not give {name}: {reason}") from problem
