"""LLMA's own data, replayed as its paper does: answers of a larger model are forced.

How many forwards would it have taken to say them with LLMA, and with our copying?
"""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

from benchmarks.conversations import Conversation, read
from benchmarks.replay import Drafter, Llma, ReferenceCopy, Replay, replay
from decoding.request import Reference
from server.tokenizer import Tokenizer

_DOCUMENT_TOKENS = 768  # LLMA cuts each document there


class Forced(NamedTuple):
    """A file, and what it took to say all its answers."""

    name: str
    answers: int
    llma: Replay
    ours: Replay


class Forcing(NamedTuple):
    """An answer that is to be said, whoever would have said it, and what it may repeat.

    LLMA copies from the documents, reference copy from the references and the prompt.
    """

    documents: Sequence[Sequence[int]]
    references: Sequence[Reference]
    prompt: Sequence[int]
    target: Sequence[int]

    def llma(self, *, n: int = 1, k: int = 20) -> Drafter:
        """LLMA, by default as published."""
        return Llma(self.documents, n=n, k=k)

    def ours(self, *, match: int | None = None, copy: int | None = None) -> Drafter:
        """Reference copy, by default at its defaults."""
        return ReferenceCopy(self.references, self.prompt, match=match, copy=copy)


def forced(tokenizer: Tokenizer, eos: Sequence[int], path: Path) -> Forced:
    """Replay one of LLMA's files."""
    cases = forcings(tokenizer, eos, path)
    return Forced(
        name=path.name,
        answers=len(cases),
        llma=reduce(Replay.plus, (replay(case.llma(), case.target) for case in cases)),
        ours=reduce(Replay.plus, (replay(case.ours(), case.target) for case in cases)),
    )


def forcings(tokenizer: Tokenizer, eos: Sequence[int], path: Path) -> list[Forcing]:
    """The answers of one of LLMA's files."""
    return [_forcing(tokenizer, eos, each) for each in read(path)]


def _forcing(tokenizer: Tokenizer, eos: Sequence[int], conversation: Conversation) -> Forcing:
    """As LLMA lays it out; without several documents the query holds the only one already."""
    texts = [document.text for document in conversation.documents]
    query = conversation.turns[0]
    joined = "\n".join(texts)
    prompt = f"docs:\n{joined}\nquery: {query}\nanswer:" if len(texts) > 1 else query
    documents = [tokenizer.encode_literally(text)[:_DOCUMENT_TOKENS] for text in texts]
    return Forcing(
        documents=documents,
        references=[Reference("document", tuple(document)) for document in documents],
        prompt=tokenizer.encode_literally(prompt),
        target=[*tokenizer.encode_literally(conversation.target or ""), *eos[:1]],
    )
