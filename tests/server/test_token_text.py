"""A token's text and bytes, for the two families of tokenizers."""

import pytest
from fakes import byte_tokenizer
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

from server.token_text import TokenText, TokenTexts, byte_level_bytes


@pytest.fixture(scope="module")
def byte_level() -> TokenTexts:
    return TokenTexts(byte_tokenizer().backend_tokenizer)


@pytest.mark.parametrize("text", ["a", "é", "😀", " \n\t\0", "ünï\u2028"])
def test_byte_level_tokens_have_the_bytes_of_their_text(byte_level: TokenTexts, text: str) -> None:
    tokens = byte_tokenizer().backend_tokenizer.encode(text).ids
    assert b"".join(byte_level.of(token).bytes for token in tokens) == text.encode()


def test_every_byte_has_a_token() -> None:
    alphabet = byte_tokenizer().get_vocab()
    found = {byte_level_bytes(piece) for piece in alphabet if len(piece) == 1}
    assert found == {bytes([byte]) for byte in range(256)}


def test_part_of_a_character_shows_its_bytes(byte_level: TokenTexts) -> None:
    first = byte_tokenizer().backend_tokenizer.encode("é").ids[0]
    assert byte_level.of(first) == TokenText(r"bytes:\xc3", b"\xc3")


def test_a_control_token_is_its_own_text(byte_level: TokenTexts) -> None:
    assert byte_level.of(259) == TokenText("<|im_end|>", b"<|im_end|>", is_special=True)


def test_an_id_of_the_padding_has_no_text(byte_level: TokenTexts) -> None:
    assert byte_level.of(100_000) == TokenText("", b"")


@pytest.mark.parametrize(
    ("piece", "raw"),
    [("▁hi", b" hi"), ("hi", b"hi"), ("<0xE2>", b"\xe2"), ("<0x0A>", b"\n"), ("é", "é".encode())],
)
def test_sentencepiece_tokens(piece: str, raw: bytes) -> None:
    backend = Tokenizer(BPE({piece: 0}, []))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    assert TokenTexts(backend).of(0).bytes == raw
