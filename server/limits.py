"""How much one request may ask for. Every limit is checked before anything is allocated for it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The caps of one request."""

    body_bytes: int = 4 * 1024 * 1024
    body_seconds: float = 30.0
    messages: int = 2048
    prompts: int = 128
    n: int = 16
    choices: int = 256  # prompts × n
    documents: int = 256
    document_characters: int = 1_000_000  # titles and texts of all documents together
    reference_tokens: int = 262_144  # to copy from, of all prompts together
