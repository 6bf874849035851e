"""The model's tokenizer, safe to share between threads: nothing here changes its settings."""

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as Backend

from server.token_text import TokenTexts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Threads of the tokenizer's own are for many texts at once, which it is never given here.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Tokenising more than this many characters is left to a thread.
OFF_LOOP_CHARACTERS = 20_000

# The language of chat templates, as transformers has it, but for a tag that only marks answers.
_TEMPLATE_LANGUAGE = ImmutableSandboxedEnvironment(extensions=[loopcontrols])
_GENERATION_TAG = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


async def off_loop_if_long(
    num_characters: int, tokenise: Callable[[*Arguments], Result], *args: *Arguments
) -> Result:
    """Tokenise here, or in a thread where other requests would have to wait for it."""
    if num_characters > OFF_LOOP_CHARACTERS:
        return await asyncio.to_thread(tokenise, *args)
    return tokenise(*args)


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
        # A copy, because the setting belongs to the whole tokenizer and threads share it.
        self._literal_backend = Backend.from_str(self._backend.to_str())
        self._literal_backend.encode_special_tokens = True
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

    def encode_prompt(self, text: str) -> list[int]:
        """Tokenise a prompt, with the tokens that the model expects around it (such as BOS)."""
        return _ids(self._backend, text, adds_special_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Tokenise text that has its control tokens written out."""
        return _ids(self._backend, text)

    def encode_literally(self, text: str) -> list[int]:
        """Tokenise text in which nothing is a control token."""
        return _ids(self._literal_backend, text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, control tokens included."""
        (text,) = self._backend.decode_batch([list(tokens)], skip_special_tokens=False)
        return str(text)

    @property
    def has_chat_template(self) -> bool:
        """Whether the model comes with a chat template."""
        return bool(self._pretrained.chat_template)

    @cached_property
    def template_takes_documents(self) -> bool:
        """Whether the chat template has a place of its own for documents."""
        try:
            template = _GENERATION_TAG.sub("", self._pretrained.get_chat_template())
            variables = find_undeclared_variables(_TEMPLATE_LANGUAGE.parse(template))
        except (TemplateError, ValueError):  # none, or one in a language that we do not know
            return False
        return "documents" in variables

    def render(
        self,
        messages: list[dict[str, str]],
        documents: list[dict[str, str]],
        *,
        continue_last: bool,
    ) -> str:
        """Write out a conversation by the model's chat template.

        Raises:
            jinja2.TemplateError, TypeError, ValueError: the template refuses these messages.
        """
        return str(
            self._pretrained.apply_chat_template(
                messages,
                documents=documents or None,
                tokenize=False,
                add_generation_prompt=not continue_last,
                continue_final_message=continue_last,
            )
        )


def _ids(backend: Backend, text: str, *, adds_special_tokens: bool = False) -> list[int]:
    # NOTE: a batch of one. Only batches let go of the interpreter while they are computed: without
    # that a thread is of no use, and a megabyte takes a second.
    (encoding,) = backend.encode_batch_fast([text], add_special_tokens=adds_special_tokens)
    return list(encoding.ids)
