"""``python -m benchmarks.reference``: what reference copy saves, and where it loses.

Every turn of a workload is answered plainly and with reference copy, one right after the other,
greedily, by the engine in this process. The answers are replayed against transformers' prompt
lookup. ``--forced`` replays LLMA's own data. ``--write`` writes ``docs/benchmarks/reference.md``.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.answering import Answer, Answerer, run_as_a_worker_does
from benchmarks.cases import Case, Result, Run
from benchmarks.conversations import Conversation, read
from benchmarks.forced import Forced, forced
from benchmarks.processes import ROOT
from benchmarks.reference_page import page
from benchmarks.replay import PromptLookup, Replay, replay
from decoding.request import Reference
from server.chat import chat_tokens
from server.documents import Document
from server.history import History
from server.references import past_answers
from server.scheduler import Known
from server.schemas import Message

PAGE = ROOT / "docs" / "benchmarks" / "reference.md"
WORKLOAD = ROOT / "benchmarks" / "prompts" / "reference.jsonl"
NEW_TOKENS = 256
ASKED_AGAIN = ("repeated_first", "repeated", "near_repeated")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Measure what reference copy saves.")
def main(
    workload: Annotated[
        list[Path] | None, typer.Option(help="JSONL of {category, turns}; instead of our own.")
    ] = None,
    forced_file: Annotated[
        list[Path] | None, typer.Option("--forced", help="LLMA's rag.jsonl or cnndm.jsonl.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often everything is timed.")] = 3,
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/.")] = False,
) -> None:
    """Measure, print, and write if asked to."""
    run_as_a_worker_does()
    console = Console(stderr=True)
    conversations = [each for path in workload or [WORKLOAD] for each in read(path)]
    answerer = Answerer.of_the_default_model(console)
    replayed: list[Forced] = [
        forced(answerer.tokenizer, answerer.engine.eos, path) for path in forced_file or []
    ]
    with Progress(console=console) as progress:
        results = measured(answerer, conversations, rounds, progress)
    text = page(results, replayed)
    print(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")


def measured(
    answerer: Answerer, conversations: Sequence[Conversation], rounds: int, progress: Progress
) -> list[Result]:
    """Everything about every turn."""
    started = progress.track(conversations, description="Answering plainly")
    cases = list(with_history(case for each in started for case in cases_of(answerer, each)))
    timed = progress.track(range(rounds * len(cases)), description="Timing both")
    runs = [both(answerer, cases[number % len(cases)], number) for number in timed]
    return [
        Result(case, runs[number :: len(cases)], by_prompt_lookup(answerer, case))
        for number, case in enumerate(cases)
    ]


def cases_of(answerer: Answerer, conversation: Conversation) -> Iterator[Case]:
    """The turns of a conversation; the model's own answers stand between them."""
    documents = [Document(title=each.title, text=each.text) for each in conversation.documents]
    messages: list[Message] = []
    for question in conversation.turns:
        messages.append(Message(role="user", content=question))
        prompt = tuple(asyncio.run(chat_tokens(answerer.tokenizer, messages, documents)))
        answer = answerer.answer(prompt, NEW_TOKENS, "autoregressive").tokens
        text = answerer.text(answer)
        predicted = text if conversation.prediction_from_answer else conversation.prediction
        known = Known(
            question=question,
            has_earlier_turns=len(messages) > 1,
            has_documents=bool(documents),
            has_prediction=bool(predicted),
        )
        yield Case(conversation.category, prompt, known, prediction_of(answerer, predicted), answer)
        messages.append(Message(role="assistant", content=text))


def prediction_of(answerer: Answerer, text: str | None) -> tuple[Reference, ...]:
    """A prediction as the server takes it from a request."""
    if not text:
        return ()
    return (Reference("prediction", tuple(answerer.tokenizer.encode_literally(text)), 1.0),)


def with_history(cases: Iterable[Case]) -> Iterator[Case]:
    """Past answers for what is asked again: one tenant's, in the workload's order."""
    history = History(1000)
    for case in cases:
        if case.category not in ASKED_AGAIN:
            yield case
            continue
        recall = asyncio.run(history.recall("", case.prompt, case.known.question))
        yield case._replace(
            known=case.known._replace(history=recall.outcome),
            references=tuple(past_answers(recall.matches)),
        )
        history.remember("", case.prompt, case.known.question, case.answer)


def both(answerer: Answerer, case: Case, number: int) -> Run:
    """Decode both ways, now one first, now the other.

    Raises:
        AssertionError: the answers differ, which would be a defect.
    """

    def plain() -> Answer:
        return answerer.answer(case.prompt, NEW_TOKENS, "autoregressive")

    def copied() -> Answer:
        return answerer.answer(case.prompt, NEW_TOKENS, "reference", case.references)

    if number % 2:
        second = copied()
        run = Run(plain(), second)
    else:
        run = Run(plain(), copied())
    assert run.plain.tokens == run.copied.tokens == case.answer, "reference copy is not lossless"
    return run


def by_prompt_lookup(answerer: Answerer, case: Case) -> Replay:
    """What transformers' prompt lookup would have needed for the same answer."""
    longest = len(case.prompt) + NEW_TOKENS
    return replay(PromptLookup(case.prompt, answerer.engine.eos, longest), case.answer)


if __name__ == "__main__":
    app()
