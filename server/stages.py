"""The prompts of a strategy that forks: the question, worded for each of its stages."""

import re
import secrets
from collections.abc import Mapping, Sequence

from decoding.request import Piece
from server.chat import chat_pieces
from server.documents import Document, preamble
from server.schemas import Message
from server.tokenizer import Tokenizer, off_loop_if_long
from server.turns import FIELDS, conversation, stage_turns
from server.wordings import Turn, Wording, Wordings

Stages = dict[str, tuple[Piece, ...]]


async def chat_stages(
    tokenizer: Tokenizer,
    wordings: Wordings,
    messages: Sequence[Message],
    documents: Sequence[Document],
) -> Stages:
    """The stages of a conversation that ends with a question.

    Raises:
        ApiError: the chat template refuses them.
    """
    *earlier, asked = messages
    wording, question = wordings.of(asked.content), asked.content
    if documents and not tokenizer.template_takes_documents:
        question, documents = preamble(documents) + question, ()
    return {
        stage: tuple(
            await chat_pieces(tokenizer, _conversation(wording, earlier, turns), documents, names)
        )
        for stage, turns, names in _turns(wording, question, _new_marks())
    }


async def text_stages(tokenizer: Tokenizer, wordings: Wordings, question: str) -> Stages:
    """The stages of a question that stands alone, as plain text."""
    wording = wordings.of(question)
    return {
        stage: await off_loop_if_long(
            len(question), _text_pieces, tokenizer, [*wording.example_turns(), *turns], names
        )
        for stage, turns, names in _turns(wording, question, _new_marks())
    }


def _new_marks() -> Mapping[str, str]:
    """What stands for each field while a prompt is rendered: nobody can have written it."""
    return {secrets.token_hex(16): field for field in FIELDS}


def _turns(
    wording: Wording, question: str, marks: Mapping[str, str]
) -> list[tuple[str, list[Turn], Mapping[str, str]]]:
    """Each stage: its name, its turns, and the marks in them."""
    fields = {field: mark for mark, field in marks.items()}
    return [
        ("outline", stage_turns(wording, "outline", question, {}), {}),
        ("point", stage_turns(wording, "point", question, fields), marks),
    ]


def _conversation(
    wording: Wording, earlier: Sequence[Message], turns: Sequence[Turn]
) -> list[Message]:
    return conversation(
        wording, earlier, turns, message=_message, role=lambda message: message.role
    )


def _message(turn: Turn) -> Message:
    role, content = turn
    return Message.model_construct(role=role, content=content)


def _text_pieces(
    tokenizer: Tokenizer, turns: Sequence[Turn], marks: Mapping[str, str]
) -> tuple[Piece, ...]:
    """Turns as paragraphs; an answer stands right below what it answers."""
    text = "".join(f"{said}\n" if role == "user" else f"{said}\n\n" for role, said in turns)
    first, *others = re.split(f"({'|'.join(marks)})" if marks else "(?!)", text.rstrip("\n"))
    pieces: list[Piece] = [tuple(tokenizer.encode_prompt(first))]
    pieces += (marks.get(each) or tuple(tokenizer.encode(each)) for each in others if each)
    return tuple(pieces)
