"""``python -m benchmarks.lookahead``: what lookahead and Jacobi save on open text, and cost.

Every turn of a workload is answered greedily by the engine in this process: plainly, by lookahead
and by Jacobi right after each other, one request at a time; once more by each of lookahead's
sources alone; and plainly and by lookahead with 4, 16 and 32 requests side by side. All answers are
compared token for token. ``--write`` writes ``docs/benchmarks/lookahead.md``.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.answering import Answer, Answerer, run_as_a_worker_does
from benchmarks.continuous import Load, Prompt, in_turn, under_load
from benchmarks.conversations import Conversation, read
from benchmarks.lookahead_page import page
from benchmarks.loops import ends_in_a_loop
from benchmarks.open_text import ALONE, PLAIN, SOURCES, Batch, Findings, Question, Way
from benchmarks.processes import ROOT
from benchmarks.replay import PromptLookup, replay
from server.chat import chat_tokens
from server.schemas import Message

PAGE = ROOT / "docs" / "benchmarks" / "lookahead.md"
WORKLOAD = ROOT / "benchmarks" / "prompts" / "open.jsonl"
NEW_TOKENS = 256
STREAMS = (4, 16, 32)
_LOADS = 5  # of each size in a round: they are short, and a busy neighbour spoils one

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Measure what lookahead and Jacobi save.")
def main(
    workload: Annotated[
        list[Path] | None, typer.Option(help="JSONL of {category, turns}; instead of our own.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is timed.")] = 3,
    limit: Annotated[int, typer.Option(min=1, help="Conversations taken, at most.")] = 1000,
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/.")] = False,
) -> None:
    """Measure, print, and write if asked to."""
    run_as_a_worker_does()
    console = Console(stderr=True)
    conversations = [each for path in workload or [WORKLOAD] for each in read(path)][:limit]
    answerer = Answerer.of_the_default_model(console)
    with Progress(console=console) as progress:
        text = page(measured(answerer, conversations, rounds, progress))
    print(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


def measured(
    answerer: Answerer, conversations: Sequence[Conversation], rounds: int, progress: Progress
) -> Findings:
    """Everything about every turn."""
    started = progress.track(conversations, description="Answering plainly")
    questions = [each for conversation in started for each in questions_of(answerer, conversation)]
    alone: list[list[dict[Way, Answer]]] = []
    for _ in range(rounds):
        answerers = {way: answerer.afresh() for way in ALONE}
        asked = progress.track(questions, description="One request at a time")
        alone.append([by_turns(answerers, each, number) for number, each in enumerate(asked)])
    sources: dict[Way, list[Answer]] = {}
    for way in SOURCES:
        answerer.start_afresh()
        asked = progress.track(questions, description=f"Sources: {way.name}")
        sources[way] = [checked(answerer, each, way) for each in asked]
    batches = [
        batch(answerer, questions, streams, number)
        for number in progress.track(range(_LOADS * rounds), description="Side by side")
        for streams in STREAMS
    ]
    return Findings(questions, alone, sources, batches)


def questions_of(answerer: Answerer, conversation: Conversation) -> Iterator[Question]:
    """The turns of a conversation; the model's own answers stand between them."""
    messages: list[Message] = []
    for question in conversation.turns:
        messages.append(Message(role="user", content=question))
        prompt = tuple(asyncio.run(chat_tokens(answerer.tokenizer, messages)))
        answer = answerer.answer(prompt, NEW_TOKENS, "autoregressive").tokens
        lookup = PromptLookup(prompt, answerer.engine.eos, len(prompt) + NEW_TOKENS)
        yield Question(
            category=conversation.category,
            prompt=prompt,
            answer=answer,
            is_loop=ends_in_a_loop(answer),
            lookup=replay(lookup, answer),
        )
        messages.append(Message(role="assistant", content=answerer.text(answer)))


def by_turns(
    answerers: Mapping[Way, Answerer], question: Question, number: int
) -> dict[Way, Answer]:
    """Answer in all ways, each time another one first, by engines that learn each from its own."""
    first = number % len(ALONE)
    return {way: checked(answerers[way], question, way) for way in (*ALONE[first:], *ALONE[:first])}


def checked(answerer: Answerer, question: Question, way: Way) -> Answer:
    """Answer in one way.

    Raises:
        AssertionError: it is not plain decoding's answer, which would be a defect.
    """
    found = answerer.answer(question.prompt, NEW_TOKENS, way.strategy, options=dict(way.options))
    assert found.tokens == question.answer, f"{way.name} is not lossless"
    return found


# --- side by side ---


def batch(answerer: Answerer, questions: Sequence[Question], streams: int, number: int) -> Batch:
    """The questions that end in no loop, so many at a time, plainly and by lookahead."""
    asked = [each for each in questions if not each.is_loop]
    asked = list(islice(cycle(asked), max(len(asked), 3 * streams)))
    if number % 2:
        drafting = loaded(answerer, asked, streams, ALONE[1])
        return Batch(streams, loaded(answerer, asked, streams, PLAIN), drafting)
    plain = loaded(answerer, asked, streams, PLAIN)
    return Batch(streams, plain, loaded(answerer, asked, streams, ALONE[1]))


def loaded(answerer: Answerer, asked: Sequence[Question], streams: int, way: Way) -> Load:
    """One run under continuous load, with an engine that has everything yet to learn.

    Raises:
        AssertionError: an answer is not plain decoding's, which would be a defect.
    """
    answerer.start_afresh()
    prompts = [
        Prompt(each.category, each.prompt, in_turn(number, streams, NEW_TOKENS))
        for number, each in enumerate(asked)
    ]
    load = under_load(answerer.engine, prompts, streams, way.strategy, way.options)
    for number, served in load.served.items():
        answer = asked[number].answer[: prompts[number].max_tokens]
        assert served.tokens == answer, f"{way.name} is not lossless in a batch"
    return load


if __name__ == "__main__":
    app()
