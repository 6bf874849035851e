"""The `prompt` of a text completion, in its four shapes → token ids."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from server.chat import prompt_tokens
from server.documents import Document, preamble
from server.errors import ApiError, invalid, shorten
from server.schemas import PromptTokens
from server.tokenizer import Tokenizer, off_loop_if_long

_token_ids: TypeAdapter[list[int]] = TypeAdapter(PromptTokens)


class Prompt(NamedTuple):
    """One prompt: its ids, its text, and how many leading ids the tokenizer added itself.

    ``question`` is what the user asked last, ``has_earlier_turns`` whether it was answered before.
    """

    tokens: list[int]
    text: str = ""
    num_added: int = 0
    question: str = ""
    has_earlier_turns: bool = False

    def after(self, other: "Prompt") -> "Prompt":
        """This prompt with another one's text in front of its own."""
        added, own = self.tokens[: self.num_added], self.tokens[self.num_added :]
        return self._replace(tokens=added + other.tokens + own, text=other.text + self.text)


def split_prompts(value: object, limit: int) -> list[str | list[int]]:
    """The prompts of a request: one string, one list of ids, or a list of either.

    Raises:
        ApiError: the value has none of the four shapes, or holds too many prompts.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise invalid(
            "'prompt' is a string, a list of strings, a list of token ids or a list of such lists",
            "prompt",
        )
    if not isinstance(value[0], str | list):
        return [_checked_ids(value, "prompt")]
    if len(value) > limit:
        raise invalid(f"'prompt' holds {len(value)} prompts, at most {limit} are taken", "prompt")
    return [_checked_entry(entry, f"prompt[{number}]") for number, entry in enumerate(value)]


def _checked_entry(entry: object, param: str) -> str | list[int]:
    return entry if isinstance(entry, str) else _checked_ids(entry, param)


def _checked_ids(value: object, param: str) -> list[int]:
    try:
        return _token_ids.validate_python(value, strict=True)
    except ValidationError as error:
        raise invalid(f"'{param}' must be a string or a list of token ids from 0", param) from error


async def read_prompt(tokenizer: Tokenizer, value: str | list[int]) -> Prompt:
    """Tokenise a prompt. Nothing is added to one given as ids."""
    if isinstance(value, list):
        text = await off_loop_if_long(len(value), tokenizer.decode, value)
        return Prompt(value, text, question=text)
    tokens = await prompt_tokens(tokenizer, value)
    return Prompt(tokens, value, num_added=_count_added(tokenizer, tokens), question=value)


async def read_preamble(tokenizer: Tokenizer, documents: Sequence[Document]) -> Prompt:
    """Tokenise documents, once for all prompts. Unlike in a prompt, all of it is mere text."""
    if not documents:
        return Prompt([])
    text = preamble(documents)
    return Prompt(await off_loop_if_long(len(text), tokenizer.encode_literally, text), text)


def _count_added(tokenizer: Tokenizer, tokens: list[int]) -> int:
    """How many leading tokens (BOS) the tokenizer adds to any text."""
    added = tokenizer.encode_prompt("")
    common = 0
    while common < min(len(added), len(tokens)) and added[common] == tokens[common]:
        common += 1
    return common


def check_all_text(prompts: Sequence[str | list[int]]) -> None:
    """Refuse prompts of ids where something is to be written in front of them."""
    if not all(isinstance(prompt, str) for prompt in prompts):
        message = "'documents' need a prompt given as text, or 'documents_in_prompt': false"
        raise invalid(message, "documents")


def check_vocabulary(tokens: list[int], vocabulary_size: int, param: str) -> None:
    """Refuse ids that the model has no embedding for, before anything computes with them."""
    if outside := sorted({token for token in tokens if token >= vocabulary_size}):
        raise outside_vocabulary(map(str, outside), vocabulary_size, param)


def outside_vocabulary(ids: Iterable[str], vocabulary_size: int, param: str) -> ApiError:
    """Name all wrong ids together, and the range."""
    listed = shorten(", ".join(ids))
    message = (
        f"'{param}' has ids outside the vocabulary: {listed}. "
        f"The vocabulary size is {vocabulary_size}: ids go from 0 to {vocabulary_size - 1}"
    )
    return invalid(message, param)
