"""Reads conversations from JSON lines: our own layout, and that of the data released with LLMA.

Knows nothing of models: what is done with the documents, predictions and targets is the caller's.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

Text = Annotated[str, Meta(pattern=r"\S")]


class Document(NamedTuple):
    """A passage that came with a conversation; ``title`` may be empty."""

    title: str
    text: str


class Conversation(NamedTuple):
    """The turns of one user, each to be answered before the next one is asked.

    ``prediction`` is what the user expects as the last answer. ``prediction_from_answer``: the
    model's own answer, found before, is to be the prediction. ``target`` is a text to force in
    place of the model's answer.
    """

    category: str
    turns: tuple[str, ...]
    documents: tuple[Document, ...] = ()
    prediction: str | None = None
    prediction_from_answer: bool = False
    target: str | None = None


def read(path: Path) -> list[Conversation]:
    """The conversations of a file, one a line, in its order; fields not known are passed over.

    Raises ValueError, with file and line, for a line that is not a conversation.
    """
    lines = enumerate(path.read_bytes().split(b"\n"), start=1)
    return [_read_line(line, path, number) for number, line in lines if line.strip()]


class _TitledText(Struct, forbid_unknown_fields=True):
    text: Text
    title: str = ""


class _Line(Struct):
    """Our own layout; of the prompts others have released, ``category`` and ``turns``."""

    category: str
    turns: Annotated[tuple[Text, ...], Meta(min_length=1)]
    documents: tuple[Text | _TitledText, ...] = ()
    prediction: Text | None = None
    prediction_from: Literal["answer"] | None = None

    def __post_init__(self) -> None:
        if self.prediction is not None and self.prediction_from is not None:
            raise ValueError("`prediction` and `prediction_from` exclude each other")

    def conversation(self) -> Conversation:
        return Conversation(
            category=self.category,
            turns=self.turns,
            documents=tuple(map(_document, self.documents)),
            prediction=self.prediction,
            prediction_from_answer=self.prediction_from == "answer",
        )


class _Completion(Struct):
    text: Text


class _LlmaLine(Struct):
    """The layout of ``llma/src/data/*.jsonl`` in microsoft/LMOps."""

    query: Text
    docs: tuple[Text, ...]
    result: _Completion

    def conversation(self, category: str) -> Conversation:
        return Conversation(
            category=category,
            turns=(self.query,),
            documents=tuple(map(_document, self.docs)),
            target=self.result.text,
        )


def _read_line(line: bytes, path: Path, number: int) -> Conversation:
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        if "query" in fields:
            return msgspec.convert(fields, _LlmaLine).conversation(category=path.stem)
        return msgspec.convert(fields, _Line).conversation()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}, line {number}: {error}") from error


def _document(document: str | _TitledText) -> Document:
    if isinstance(document, str):
        return Document(title="", text=document)
    return Document(document.title, document.text)
