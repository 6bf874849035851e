"""Messages → token ids by the model's chat template; what users write never becomes control."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from jinja2 import TemplateError

from decoding.request import Piece
from server.documents import Document, preamble
from server.errors import ApiError, invalid, shorten
from server.schemas import Message
from server.tokenizer import Tokenizer, off_loop_if_long

# Stand-ins for control tokens in what users write while the template runs: private-use
# characters around a number. The template sees all the rest of the text as it is.
_OPEN, _CLOSE = "\U000f5a1d", "\U000f5a1e"
_STAND_IN = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


async def chat_tokens(
    tokenizer: Tokenizer, messages: Sequence[Message], documents: Sequence[Document] = ()
) -> list[int]:
    """The prompt of a conversation. A last message of the assistant is continued.

    The template places the documents; where it knows none, they go in front of the last question.

    Raises:
        ApiError: the template refuses the messages, or the documents have no place.
    """
    pieces = await chat_pieces(tokenizer, messages, documents, {})
    return list(chain.from_iterable(piece for piece in pieces if not isinstance(piece, str)))


async def chat_pieces(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    documents: Sequence[Document],
    marks: Mapping[str, str],
) -> list[Piece]:
    """The same with places left open: where a message has one of ``marks``, the mark's name.

    Raises:
        ApiError: see ``chat_tokens``.
    """
    num_characters = sum(len(message.content) for message in messages)
    num_characters += sum(document.num_characters for document in documents)
    return await off_loop_if_long(
        num_characters, _chat_pieces, tokenizer, messages, documents, marks
    )


async def prompt_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """The prompt of a text completion."""
    return await off_loop_if_long(len(text), tokenizer.encode_prompt, text)


def _chat_pieces(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    documents: Sequence[Document],
    marks: Mapping[str, str],
) -> list[Piece]:
    if documents and not tokenizer.template_takes_documents:
        messages, documents = _in_last_question(documents, messages), ()
    stand_ins = _StandIns(tokenizer.special_texts, marks)
    turns = [_turn(message, stand_ins) for message in messages]
    pages = [_page(document, stand_ins) for document in documents]
    return list(stand_ins.pieces(tokenizer, _render(tokenizer, turns, pages)))


def _in_last_question(documents: Sequence[Document], messages: Sequence[Message]) -> list[Message]:
    number = max((n for n, message in enumerate(messages) if message.role == "user"), default=None)
    if number is None:
        message = (
            "The chat template of this model takes no documents, and there is no user message to "
            "put them in front of: send one, or 'documents_in_prompt': false"
        )
        raise invalid(message, "documents")
    content = preamble(documents) + messages[number].content
    question = messages[number].model_copy(update={"content": content})
    return [*messages[:number], question, *messages[number + 1 :]]


class _StandIns:
    """Takes the control tokens out of what users write, and puts them back as mere text."""

    def __init__(self, control_texts: Iterable[str], marks: Mapping[str, str]) -> None:
        self._marks = marks
        # What encloses stand-ins is replaced as well, so that nobody can write one.
        replaced = [*marks, *control_texts, _OPEN, _CLOSE]
        self._replaced = re.compile("|".join(map(re.escape, replaced)))
        self._found: list[str] = []

    def put_into(self, text: str) -> str:
        """The text as the template may see it."""
        return self._replaced.sub(self._stand_in, text)

    def _stand_in(self, match: re.Match[str]) -> str:
        self._found.append(match[0])
        return f"{_OPEN}{len(self._found) - 1}{_CLOSE}"

    def pieces(self, tokenizer: Tokenizer, rendered: str) -> Iterator[Piece]:
        """What the template wrote, with what the stand-ins stand for; marks by their names."""
        texts = _STAND_IN.split(rendered)
        yield tuple(tokenizer.encode(texts[0]))
        for number, after in zip(texts[1::2], texts[2::2], strict=True):
            found = self._found[int(number)]
            yield self._marks.get(found) or tuple(tokenizer.encode_literally(found))
            if after:
                yield tuple(tokenizer.encode(after))


def _turn(message: Message, stand_ins: _StandIns) -> dict[str, str]:
    role = "system" if message.role == "developer" else message.role
    turn = {"role": role, "content": stand_ins.put_into(message.content)}
    return turn if message.name is None else turn | {"name": message.name}


def _page(document: Document, stand_ins: _StandIns) -> dict[str, str]:
    # Templates rely on both keys, as transformers recommends them.
    return {
        "title": stand_ins.put_into(document.title),
        "text": stand_ins.put_into(document.text),
    }


def _render(tokenizer: Tokenizer, turns: list[dict[str, str]], pages: list[dict[str, str]]) -> str:
    if not tokenizer.has_chat_template:
        raise invalid("This model has no chat template: use /v1/completions", "messages")
    try:
        return tokenizer.render(turns, pages, continue_last=turns[-1]["role"] == "assistant")
    except (TemplateError, TypeError, ValueError) as error:
        raise _refused_by_template(error) from error


def _refused_by_template(error: Exception) -> ApiError:
    message = f"The chat template of this model refuses these messages: {shorten(str(error))}"
    return invalid(message, "messages")
