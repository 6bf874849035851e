"""What is swept over: open questions, and texts that repeat known ones, with plain answers."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from benchmarks.answering import Answerer
from benchmarks.conversations import Conversation, read
from benchmarks.loops import ends_in_a_loop
from benchmarks.processes import ROOT
from benchmarks.skeleton import some_of
from benchmarks.sweeps.unbounded import NEW_TOKENS
from server.chat import chat_tokens
from server.schemas import Message

PROMPTS = ROOT / "benchmarks" / "prompts"


class Answered(NamedTuple):
    """A question as the model reads it, and its greedy answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class Open(NamedTuple):
    """Open questions without those whose answers end in a loop, of which there were ``loops``."""

    questions: Sequence[Answered]
    loops: int

    @property
    def tokens(self) -> int:
        """Of all answers."""
        return sum(len(each.answer) for each in self.questions)


def evenly(path: Path, each: int) -> list[Conversation]:
    """So many conversations of every category, evenly from those in the file."""
    groups = groupby(read(path), key=lambda conversation: conversation.category)
    return [found for _, group in groups for found in some_of(list(group), each)]


def open_questions(answerer: Answerer, conversations: Iterable[Conversation]) -> Open:
    """The first turns of conversations, answered plainly."""
    found = [_answered(answerer, each.turns[0]) for each in conversations]
    kept = [each for each in found if not ends_in_a_loop(each.answer)]
    return Open(kept, len(found) - len(kept))


def _answered(answerer: Answerer, question: str) -> Answered:
    messages = [Message(role="user", content=question)]
    prompt = tuple(asyncio.run(chat_tokens(answerer.tokenizer, messages)))
    return Answered(prompt, answerer.answer(prompt, NEW_TOKENS, "autoregressive").tokens)
