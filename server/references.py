"""What an answer may be copied from, as tokens: a prediction, documents, past answers."""

from collections.abc import Iterator, Sequence

from decoding.request import Reference
from server.history import Match
from server.tokenizer import Tokenizer, off_loop_if_long

# More than any text has on average. Only what lies within the limit is worth tokenising.
_CHARACTERS_PER_TOKEN = 16


async def read_references(
    tokenizer: Tokenizer, prediction: str, documents: Sequence[str], *, context: int, limit: int
) -> tuple[Reference, ...]:
    """The prediction, then the documents, cut to ``limit`` tokens altogether.

    No answer is longer than ``context``, so neither is the prediction.
    """
    num_characters = len(prediction) + sum(map(len, documents))
    return await off_loop_if_long(
        num_characters, _references, tokenizer, prediction, documents, context, limit
    )


def _references(
    tokenizer: Tokenizer, prediction: str, documents: Sequence[str], context: int, limit: int
) -> tuple[Reference, ...]:
    predicted = prediction_reference(tokenizer, prediction, min(context, limit))
    if predicted is None:
        return tuple(document_references(tokenizer, documents, limit))
    room = limit - len(predicted.tokens)
    return (predicted, *document_references(tokenizer, documents, room))


def prediction_reference(tokenizer: Tokenizer, text: str, limit: int) -> Reference | None:
    """What the answer is expected to be, or None where nothing is."""
    tokens = _beginning(tokenizer, text, limit)
    return Reference("prediction", tokens, likeness=1.0) if tokens else None


def document_references(
    tokenizer: Tokenizer, texts: Sequence[str], limit: int
) -> Iterator[Reference]:
    """One for each text, until the limit is reached; the last one may be cut."""
    for text in texts:
        if tokens := _beginning(tokenizer, text, limit):
            limit -= len(tokens)
            yield Reference("document", tokens, likeness=0.0)


def past_answers(matches: Sequence[Match]) -> Iterator[Reference]:
    """What the history found, each as likely to be given again as its prompt is alike."""
    for match in matches:
        yield Reference("history", match.answer, match.likeness)


def prediction_in(references: Sequence[Reference]) -> tuple[int, ...]:
    """The tokens of the prediction among these; none where there is no prediction."""
    predictions = (each.tokens for each in references if each.source == "prediction")
    return next(predictions, ())


def _beginning(tokenizer: Tokenizer, text: str, limit: int) -> tuple[int, ...]:
    beginning = text[: limit * _CHARACTERS_PER_TOKEN]
    return tuple(tokenizer.encode_literally(beginning)[:limit]) if beginning else ()
