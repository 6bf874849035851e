"""``python -m benchmarks.skeleton``: what skeleton-of-thought saves on list questions, and costs.

``stride serve`` is asked over HTTP, streaming: every question plainly, losslessly, by skeleton and
plainly for as many tokens, right after each other, each time another way first; then all questions
with 16 requests in progress, plainly and by ``auto``. Every round begins with servers that know
none of the questions. ``--upstream`` asks through a second server that has the first one answer.
``--write`` writes ``docs/benchmarks/skeleton.md``.
"""

import asyncio
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from transformers import PreTrainedTokenizerFast

from benchmarks.chatting import ChatAnswer, ChatServer
from benchmarks.conversations import Conversation, read
from benchmarks.machine import OtherLoad
from benchmarks.processes import ROOT
from benchmarks.served_load import ServedLoad, Task, under_served_load
from benchmarks.skeleton_findings import (
    AUTO,
    DECODING,
    EQUAL,
    LOSSLESS,
    PLAIN,
    SKELETON,
    Answers,
    ListFindings,
    ListQuestion,
    ServedBatch,
)
from benchmarks.skeleton_page import page
from decoding.models import DEFAULT_MODEL, progress_on, resolve
from decoding.options import default_cache_dir
from decoding.runner import BLOCK_SIZE
from server.schemas import Message
from server.stages import chat_stages
from server.tokenizer import Tokenizer
from server.wordings import Wordings

PAGE = ROOT / "docs" / "benchmarks" / "skeleton.md"
WORKLOAD = ROOT / "benchmarks" / "prompts" / "lists.jsonl"
NEW_TOKENS = 512
STREAMS = 16
_WARMING_UP = "What makes a walk in the park pleasant?"
_WARMING_TOKENS = 128

Turns = Sequence[Sequence[str]]
"""Ways to answer; those of one turn are always asked in this order."""

_TURNS: Turns = ((PLAIN,), (LOSSLESS,), (SKELETON, EQUAL))
_UPSTREAM_TURNS: Turns = ((LOSSLESS,), (SKELETON,))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Measure what skeleton-of-thought saves.")
def main(
    workload: Annotated[
        list[Path] | None, typer.Option(help="JSONL of {category, turns}; instead of our own.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is timed.")] = 3,
    questions: Annotated[
        int | None, typer.Option(min=1, hidden=True, help="So many of them, to try it.")
    ] = None,
    upstream: Annotated[
        bool, typer.Option(help="Ask through a second server, too, that has the first one answer.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/.")] = False,
) -> None:
    """Measure, print, and write if asked to."""
    # Ended from outside, it must still end the servers it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(stderr=True)
    directory = resolve(
        DEFAULT_MODEL, cache=default_cache_dir(), progress=progress_on(console)
    ).directory
    conversations = [each for path in workload or [WORKLOAD] for each in read(path)]
    asked = asyncio.run(questions_of(directory, some_of(conversations, questions)))
    with Progress(console=console) as progress:
        found = Measurement(directory, asked, progress).findings(rounds, upstream=upstream)
    text = page(found)
    print(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


def some_of(conversations: Sequence[Conversation], count: int | None) -> list[Conversation]:
    """So many of them, spread over the categories; all if no number is given."""
    if count is None:
        return list(conversations)
    return [conversations[number * len(conversations) // count] for number in range(count)]


async def questions_of(
    directory: Path, conversations: Sequence[Conversation]
) -> list[ListQuestion]:
    """The first turn of each, and what is known of the prompt that asks for its outline."""
    tokenizer = Tokenizer(PreTrainedTokenizerFast.from_pretrained(directory))
    first = await outline_prompt(tokenizer, _WARMING_UP)
    found = []
    for conversation in conversations:
        text = conversation.turns[0]
        prompt = await outline_prompt(tokenizer, text)
        pairs = enumerate(zip(first, prompt, strict=False))
        alike = next(number for number, (ours, theirs) in pairs if ours != theirs)
        shared = alike - alike % BLOCK_SIZE
        found.append(ListQuestion(conversation.category, text, len(prompt), shared))
    return found


async def outline_prompt(tokenizer: Tokenizer, question: str) -> list[int]:
    """The token ids that skeleton begins with."""
    messages = [Message(role="user", content=question)]
    stages = await chat_stages(tokenizer, Wordings(), messages, [])
    return [token for piece in stages["outline"] for token in piece if isinstance(token, int)]


class Measurement:
    """Asks the questions of servers that it starts and ends; knows how busy others were."""

    def __init__(
        self, directory: Path, questions: Sequence[ListQuestion], progress: Progress
    ) -> None:
        self._directory = directory
        self._questions = questions
        self._progress = progress
        self._other_load = 0.0

    def findings(self, rounds: int, *, upstream: bool) -> ListFindings:
        """Everything about every question."""
        alone, batches, through = [], [], []
        for number in range(rounds):
            title = f"Round {number + 1} of {rounds}"
            with self._started(ChatServer.of_model(self._directory), _TURNS) as server:
                alone.append(asyncio.run(self._alone(server, _TURNS, number, title)))
            batches.append(self._batch(number))
            if upstream:
                through.append(self._through(number, f"{title}, upstream"))
        return ListFindings(self._questions, alone, batches, through, self._other_load)

    async def _alone(
        self, server: ChatServer, turns: Turns, number: int, title: str
    ) -> list[Answers]:
        """Every question, one request at a time, in all ways."""
        return [
            await self._by_turns(server, question, turned(turns, number + position))
            for position, question in self._track(title)
        ]

    async def _by_turns(
        self, server: ChatServer, question: ListQuestion, ways: Iterable[str]
    ) -> Answers:
        """Ask one question in these ways, one after the other."""
        answers: dict[str, ChatAnswer] = {}
        for way in ways:
            limit, fields = NEW_TOKENS, {}
            if way == EQUAL:
                limit, fields = answers[SKELETON].num_tokens, {"ignore_eos": True}
            answers[way] = await server.ask(question.text, limit, DECODING[way], fields)
        return answers

    # --- side by side ---

    def _batch(self, number: int) -> ServedBatch:
        """All questions, so many at a time, plainly and by ``auto``, taking turns."""
        if number % 2:
            by_auto = self._loaded(AUTO)
            return ServedBatch(STREAMS, self._loaded(DECODING[PLAIN]), by_auto)
        plain = self._loaded(DECODING[PLAIN])
        return ServedBatch(STREAMS, plain, self._loaded(AUTO))

    def _loaded(self, decoding: Mapping[str, Any]) -> ServedLoad:
        """One run under continuous load, of a server that knows none of the questions."""
        texts = [question.text for question in self._questions]
        texts = list(islice(cycle(texts), max(len(texts), 2 * STREAMS)))
        with self._started(ChatServer.of_model(self._directory), _TURNS) as server:
            tasks = [_asking(server, text, decoding) for text in texts]
            return asyncio.run(under_served_load(tasks, STREAMS))

    # --- through another server ---

    def _through(self, number: int, title: str) -> list[Answers]:
        """The questions, asked of a server that has another one answer.

        That one is told to be lossless, or ``auto`` would write in points there as well.
        """
        last = ChatServer.of_model(self._directory, "--lossless-only")
        with self._started(last, ((LOSSLESS,),)):
            options = ["--upstream", last.url, "--upstream-model", last.model]
            with self._started(ChatServer(last.model, *options), _UPSTREAM_TURNS) as server:
                return asyncio.run(self._alone(server, _UPSTREAM_TURNS, number, title))

    # --- servers ---

    @contextmanager
    def _started(self, server: ChatServer, turns: Turns) -> Iterator[ChatServer]:
        """A server that has answered a question in all ways, none of ours; ended afterwards."""
        try:
            server.start()
            server.thaw()
            asyncio.run(self._warm_up(server, turns))
            load = OtherLoad()
            yield server
            self._other_load = max(self._other_load, load.share())
        finally:
            server.stop()

    async def _warm_up(self, server: ChatServer, turns: Turns) -> None:
        for way in turned(turns, 0):
            await server.ask(_WARMING_UP, _WARMING_TOKENS, DECODING[way])

    def _track(self, title: str) -> Iterable[tuple[int, ListQuestion]]:
        """The questions with their numbers, under a bar, or a line where bars are not drawn."""
        if not self._progress.console.is_terminal:
            self._progress.console.print(title)
        return enumerate(self._progress.track(self._questions, description=title))


def _asking(server: ChatServer, question: str, decoding: Mapping[str, Any]) -> Task:
    async def asked(started: float) -> list[ChatAnswer]:
        return [await server.ask(question, NEW_TOKENS, decoding, started=started)]

    return asked


def turned(turns: Turns, number: int) -> list[str]:
    """The ways in the order of their turns, each time another turn first."""
    first = number % len(turns)
    return [way for turn in (*turns[first:], *turns[:first]) for way in turn]


if __name__ == "__main__":
    app()
