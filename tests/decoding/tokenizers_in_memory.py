"""Two tokenizers without a file: bytes as GPT-2 writes them, and words with byte fallback."""

from itertools import count

from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE

WORDS = ("▁", "a", "b", "é", "中", "▁the", "▁cat", "s", "▁▁", "\ufffd", ".")


def byte_tokenizer() -> Tokenizer:
    """Token ``i`` is byte ``i``; 256 is a control token."""
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    return tokenizer


def word_tokenizer() -> Tokenizer:
    """Token ``i`` is byte ``i``, then come words whose spaces stand before them, as in Llama 2."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocabulary |= {word: 256 + number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(BPE(vocabulary, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return tokenizer


def _byte_characters() -> list[str]:
    """The visible character that stands for each byte in such vocabularies."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = count(256)
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]
