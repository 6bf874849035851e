"""The model's tokenizer, safe to share between threads: nothing here changes its settings."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tokenizers import Tokenizer as Backend

from server.token_text import TokenTexts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokenizer:
    """Text ↔ token ids, and the chat template."""

    def __init__(self, pretrained: "PreTrainedTokenizerBase") -> None:
        if not pretrained.is_fast:
            raise ValueError("the model has no fast tokenizer (tokenizer.json)")
        self._pretrained = pretrained
        self._backend: Backend = pretrained.backend_tokenizer
        # A prompt is never cut or padded, whatever the file says.
        self._backend.no_truncation()
        self._backend.no_padding()
        self.texts = TokenTexts(self._backend)

    @property
    def size(self) -> int:
        """The number of tokens it knows."""
        return len(self._pretrained)

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """The texts that become control tokens, longest first."""
        added = self._backend.get_added_tokens_decoder().values()
        return tuple(sorted((t.content for t in added if t.special), key=len, reverse=True))

    @cached_property
    def _literal_backend(self) -> Backend:
        # A copy, because the setting belongs to the whole tokenizer and threads share it.
        copy = Backend.from_str(self._backend.to_str())
        copy.encode_special_tokens = True
        return copy

    def encode_prompt(self, text: str) -> list[int]:
        """Tokenise a prompt, with the tokens that the model expects around it (such as BOS)."""
        return list(self._backend.encode(text).ids)

    def encode(self, text: str) -> list[int]:
        """Tokenise text that has its control tokens written out."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_literally(self, text: str) -> list[int]:
        """Tokenise text in which nothing is a control token."""
        return list(self._literal_backend.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, control tokens included."""
        return str(self._backend.decode(list(tokens), skip_special_tokens=False))

    @property
    def has_chat_template(self) -> bool:
        """Whether the model comes with a chat template."""
        return bool(self._pretrained.chat_template)

    def render(self, messages: list[dict[str, str]], *, continue_last: bool) -> str:
        """Write out a conversation by the model's chat template.

        Raises:
            jinja2.TemplateError, TypeError, ValueError: the template refuses these messages.
        """
        return str(
            self._pretrained.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not continue_last,
                continue_final_message=continue_last,
            )
        )
