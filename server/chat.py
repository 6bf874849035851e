"""Messages → token ids by the model's chat template; what users write never becomes control."""

import asyncio
import re
from collections.abc import Sequence

from jinja2 import TemplateError

from server.errors import ApiError, invalid, shorten
from server.schemas import Message
from server.tokenizer import Tokenizer

# Tokenising more than this many characters is left to a thread.
OFF_LOOP_CHARACTERS = 20_000

# Stand-ins for control tokens in messages while the template runs: private-use characters
# around a number. The template sees all the rest of the text as it is.
_OPEN, _CLOSE = "\U000f5a1d", "\U000f5a1e"
_STAND_IN = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


async def chat_tokens(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """The prompt of a conversation. A last message of the assistant is continued.

    Raises:
        ApiError: the template refuses the messages.
    """
    if sum(len(message.content) for message in messages) > OFF_LOOP_CHARACTERS:
        return await asyncio.to_thread(_chat_tokens, tokenizer, messages)
    return _chat_tokens(tokenizer, messages)


async def prompt_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """The prompt of a text completion."""
    if len(text) > OFF_LOOP_CHARACTERS:
        return await asyncio.to_thread(tokenizer.encode_prompt, text)
    return tokenizer.encode_prompt(text)


def _chat_tokens(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    special = re.compile("|".join(map(re.escape, tokenizer.special_texts)) or r"(?!)")
    contents = [message.content for message in messages]
    if not any(special.search(content) for content in contents):
        return tokenizer.encode(_render(tokenizer, messages, contents))
    return _tokens_around_stand_ins(tokenizer, messages, contents, special)


def _tokens_around_stand_ins(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    contents: list[str],
    special: re.Pattern[str],
) -> list[int]:
    found: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        found.append(match[0])
        return f"{_OPEN}{len(found) - 1}{_CLOSE}"

    unmarked = (content.replace(_OPEN, "").replace(_CLOSE, "") for content in contents)
    marked = [special.sub(stand_in, content) for content in unmarked]
    pieces = _STAND_IN.split(_render(tokenizer, messages, marked))
    tokens = tokenizer.encode(pieces[0])
    for number, after in zip(pieces[1::2], pieces[2::2], strict=True):
        tokens += tokenizer.encode_literally(found[int(number)])
        tokens += tokenizer.encode(after) if after else []
    return tokens


def _render(tokenizer: Tokenizer, messages: Sequence[Message], contents: list[str]) -> str:
    if not tokenizer.has_chat_template:
        raise invalid("This model has no chat template: use /v1/completions", "messages")
    turns = [_turn(message, text) for message, text in zip(messages, contents, strict=True)]
    try:
        return tokenizer.render(turns, continue_last=messages[-1].role == "assistant")
    except (TemplateError, TypeError, ValueError) as error:
        raise _refused_by_template(error) from error


def _turn(message: Message, content: str) -> dict[str, str]:
    role = "system" if message.role == "developer" else message.role
    turn = {"role": role, "content": content}
    return turn if message.name is None else turn | {"name": message.name}


def _refused_by_template(error: Exception) -> ApiError:
    message = f"The chat template of this model refuses these messages: {shorten(str(error))}"
    return invalid(message, "messages")
