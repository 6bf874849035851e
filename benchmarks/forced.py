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


class _Forcing(NamedTuple):
    documents: list[list[int]]
    prompt: list[int]
    target: list[int]

    def llma(self) -> Drafter:
        return Llma(self.documents, n=1, k=20)

    def ours(self) -> Drafter:
        references = [Reference("document", tuple(document)) for document in self.documents]
        return ReferenceCopy(references, self.prompt)


def forced(tokenizer: Tokenizer, eos: Sequence[int], path: Path) -> Forced:
    """Replay one of LLMA's files."""
    cases = [_case(tokenizer, eos, each) for each in read(path)]
    return Forced(
        name=path.name,
        answers=len(cases),
        llma=reduce(Replay.plus, (replay(case.llma(), case.target) for case in cases)),
        ours=reduce(Replay.plus, (replay(case.ours(), case.target) for case in cases)),
    )


def _case(tokenizer: Tokenizer, eos: Sequence[int], conversation: Conversation) -> _Forcing:
    """As LLMA lays it out; without several documents the query holds the only one already."""
    texts = [document.text for document in conversation.documents]
    query = conversation.turns[0]
    joined = "\n".join(texts)
    prompt = f"docs:\n{joined}\nquery: {query}\nanswer:" if len(texts) > 1 else query
    return _Forcing(
        documents=[tokenizer.encode_literally(text)[:_DOCUMENT_TOKENS] for text in texts],
        prompt=tokenizer.encode_literally(prompt),
        target=[*tokenizer.encode_literally(conversation.target or ""), *eos[:1]],
    )
