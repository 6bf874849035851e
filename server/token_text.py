"""One token id → its text and its bytes, for log-probabilities."""

import re
from functools import lru_cache
from typing import NamedTuple

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_METASPACE = "▁"  # sentencepiece's visible space


class TokenText(NamedTuple):
    """A token as it is shown; a token that is only part of a character shows its bytes."""

    text: str
    bytes: bytes
    is_special: bool = False


def _byte_of_character() -> dict[str, int]:
    """The alphabet of byte-level BPE, backwards.

    Printable Latin-1 stands for itself; the other bytes are moved past 255, in order.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + number): byte for number, byte in enumerate(moved)
    }


_BYTES = _byte_of_character()


def byte_level_bytes(piece: str) -> bytes:
    """``Ġhello`` → ``b" hello"``."""
    if all(character in _BYTES for character in piece):
        return bytes(_BYTES[character] for character in piece)
    return piece.encode()


def sentencepiece_bytes(piece: str) -> bytes:
    """``▁hello`` → ``b" hello"``, ``<0xE2>`` → ``b"\\xe2"``."""
    if byte := _BYTE_TOKEN.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    return piece.replace(_METASPACE, " ").encode()


class TokenTexts:
    """The texts of all tokens of one tokenizer."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._added = backend.get_added_tokens_decoder()
        is_byte_level = "ByteLevel" in repr(backend.decoder)
        self._to_bytes = byte_level_bytes if is_byte_level else sentencepiece_bytes
        self.of = lru_cache(maxsize=65536)(self._of)

    def _of(self, token: int) -> TokenText:
        """The token's text; empty for an id that the tokenizer does not have."""
        if added := self._added.get(token):
            return TokenText(added.content, added.content.encode(), added.special)
        piece = self._backend.id_to_token(token)
        raw = b"" if piece is None else self._to_bytes(piece)
        return TokenText(_shown(raw), raw)


def _shown(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
