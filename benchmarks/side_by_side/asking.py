"""Plays sessions: one conversation after the other, each answer read before the next question."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from benchmarks.chatting import ChatAnswer, asked
from benchmarks.conversations import Conversation
from benchmarks.side_by_side.sessions import Session
from benchmarks.side_by_side.ways import Way
from benchmarks.streaming import Address
from server.documents import Document, preamble

Message = dict[str, str]


class Reached(Protocol):
    """A server that answers."""

    @property
    def address(self) -> Address:
        """Where its API is."""

    @property
    def model(self) -> str:
        """The name of what it serves."""


class Turn(NamedTuple):
    """A question of a session, and the answer to it."""

    session: str
    number: int  # in the session
    category: str
    answer: ChatAnswer


async def play(
    server: Reached, way: Way, session: Session, started: float | None = None
) -> list[Turn]:
    """Ask everything; the clock of all answers is started for each unless it runs already.

    Raises:
        ContestantFailed: a question was not answered.
    """
    turns: list[Turn] = []
    common: dict[str, Any] = {"model": server.model, "stream": True, **way.fields}
    common["max_tokens"] = session.max_tokens
    if session.system and "cache_salt" in way.knows:
        common["cache_salt"] = session.system  # another user: past answers are not theirs
    for conversation in session.conversations:
        messages: list[Message] = []
        if session.system:
            messages.append({"role": "system", "content": session.system})
        for question in conversation.turns:
            messages.append({"role": "user", "content": question})
            body = {**common, **asking(way, conversation, messages)}
            answer = await asked(server.address, body, started)
            turns.append(Turn(session.name, len(turns), conversation.category, answer))
            messages.append({"role": "assistant", "content": answer.text})
    return turns


def asking(way: Way, conversation: Conversation, messages: Sequence[Message]) -> Mapping[str, Any]:
    """The messages as this server takes them: the same prompt for all.

    What Stride does with documents for this model is done beforehand for those who take none.
    """
    body: dict[str, Any] = {"messages": list(messages)}
    if conversation.documents and "documents" in way.knows:
        body["documents"] = [each._asdict() for each in conversation.documents]
    elif conversation.documents:
        documents = [Document(title=each.title, text=each.text) for each in conversation.documents]
        *before, last = messages
        last = {**last, "content": preamble(documents) + last["content"]}
        body["messages"] = [*before, last]
    if conversation.prediction and "prediction" in way.knows:
        body["prediction"] = {"type": "content", "content": conversation.prediction}
    return body
