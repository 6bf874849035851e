"""Documents that a request brings along: their shape, limits, and how they are written out."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, model_validator

from server.errors import invalid
from server.limits import Limits
from server.strict_body import StrictBody, refusal


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise refusal("A document must not be empty")
    return text


class Document(StrictBody):
    """A text to draw on, sent as an object or as a mere string. Its title may be empty."""

    text: Annotated[str, AfterValidator(_check_not_blank)]
    title: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: object) -> object:
        return {"text": value} if isinstance(value, str) else value

    @property
    def num_characters(self) -> int:
        """How much there is to tokenise."""
        return len(self.title) + len(self.text)


def check_documents(sent: object, limits: Limits) -> None:
    """Look at what was sent as documents, before anything works with it.

    Raises:
        ApiError: there are too many, or they are too long altogether.
    """
    if not isinstance(sent, list):
        return
    if len(sent) > limits.documents:
        message = f"'documents' holds {len(sent)}, at most {limits.documents} are taken"
        raise invalid(message, "documents")
    if sum(map(_num_characters, sent)) > limits.document_characters:
        message = f"'documents' takes at most {limits.document_characters} characters altogether"
        raise invalid(message, "documents")


def _num_characters(sent: object) -> int:
    texts = [sent.get("title"), sent.get("text")] if isinstance(sent, dict) else [sent]
    return sum(len(text) for text in texts if isinstance(text, str))


def preamble(documents: Sequence[Document]) -> str:
    """The documents as they stand in front of a question, for a template that knows none."""
    return "".join(
        f"[{number}] {_titled(document)}\n\n" for number, document in enumerate(documents, start=1)
    )


def _titled(document: Document) -> str:
    return f"{document.title}\n{document.text}" if document.title else document.text
