"""A job's parts → the body of the answer, or the events of a stream."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import partial

from msgspec import UNSET

from decoding.request import Decision, Explanation, Output, SourceCounts, TokenLogprob
from server.bodies import (
    Answer,
    Batch,
    Branches,
    BudgetStep,
    ChunkChoice,
    CompletionTokensDetails,
    Decoding,
    Fallback,
    PromptTokensDetails,
    SourceUse,
    Usage,
)
from server.endpoints import ChatWriter, CompletionWriter, Writer
from server.errors import ApiError
from server.generation import Part
from server.jobs import Job
from server.responses import DONE, event
from server.token_text import TokenTexts

NewWriter = Callable[[int], Writer]


def chat_writers(job: Job, texts: TokenTexts) -> NewWriter:
    """Writers for the choices of a chat completion."""
    return partial(ChatWriter, job, texts=texts)


def completion_writers(job: Job, texts: TokenTexts, *, echo: bool) -> NewWriter:
    """Writers for the choices of a text completion."""
    return partial(CompletionWriter, job, texts=texts, echo=echo)


class PromptScores:
    """The engine scores a prompt once; every choice of that prompt shows the scores."""

    def __init__(self, job: Job) -> None:
        self._n = job.n
        self._scores: dict[int, tuple[TokenLogprob, ...]] = {}

    def shared(self, part: Part) -> Output:
        """The part's output, with the scores of its prompt."""
        prompt, output = part.choice // self._n, part.output
        if output.prompt_logprobs is not None:
            self._scores[prompt] = output.prompt_logprobs
        output.prompt_logprobs = self._scores.get(prompt)
        return output


async def whole_answer(job: Job, parts: AsyncGenerator[Part], new_writer: NewWriter) -> Answer:
    """Wait for all choices and put them in one body."""
    writers = [new_writer(index) for index in range(job.num_choices)]
    scores = PromptScores(job)
    async with aclosing(parts):
        async for part in parts:
            writers[part.choice].add(scores.shared(part))
    return Answer(
        id=job.id,
        object="chat.completion" if job.endpoint == "chat" else "text_completion",
        created=job.created,
        model=job.model,
        choices=[writer.whole() for writer in writers],
        usage=usage(job),
        decoding=decoding(job),
    )


async def events(
    job: Job,
    first: Part,
    rest: AsyncGenerator[Part],
    new_writer: NewWriter,
    *,
    include_usage: bool,
    on_over: Callable[[], None] = lambda: None,
) -> AsyncGenerator[bytes]:
    """The events of a stream whose first part has already come.

    An engine failure is the last event: it is too late for a status. ``on_over`` is called before
    the last event leaves: a client that has read it may ask again at once.
    """
    stream = Stream(job, new_writer, include_usage=include_usage)
    yield stream.frames(first)
    try:
        async for part in rest:
            if frames := stream.frames(part):
                yield frames
    except ApiError as error:
        on_over()
        yield event(error.body())
    else:
        on_over()
        yield stream.end()


class Stream:
    """Turns parts into events; knows which choice is the last to finish."""

    def __init__(self, job: Job, new_writer: NewWriter, *, include_usage: bool) -> None:
        self._job = job
        self._writers = [new_writer(index) for index in range(job.num_choices)]
        self._scores = PromptScores(job)
        self._include_usage = include_usage
        self._num_unfinished = job.num_choices

    def frames(self, part: Part) -> bytes:
        """The events of one part; none while its text is held back."""
        choices = self._writers[part.choice].chunks(self._scores.shared(part))
        return b"".join(map(event, self._chunks(choices)))

    def end(self) -> bytes:
        """The usage, if it was asked for, and the end mark."""
        if not self._include_usage:
            return DONE
        last = self._chunk([])
        last.usage = usage(self._job)
        last.decoding = decoding(self._job)
        return event(last) + DONE

    def _chunks(self, choices: list[ChunkChoice]) -> Iterator[Answer]:
        for choice in choices:
            chunk = self._chunk([choice])
            self._num_unfinished -= choice.finish_reason is not None
            if not self._num_unfinished and not self._include_usage:
                chunk.decoding = decoding(self._job)
            yield chunk

    def _chunk(self, choices: list[ChunkChoice]) -> Answer:
        return Answer(
            id=self._job.id,
            object="chat.completion.chunk" if self._job.endpoint == "chat" else "text_completion",
            created=self._job.created,
            model=self._job.model,
            choices=choices,
            usage=None if self._include_usage else UNSET,
        )


def usage(job: Job) -> Usage:
    """What the request has used so far."""
    tally = job.tally
    return Usage(
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        total_tokens=tally.prompt_tokens + tally.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=tally.cached_tokens),
        completion_tokens_details=CompletionTokensDetails(
            accepted_prediction_tokens=tally.accepted_prediction,
            rejected_prediction_tokens=tally.rejected_prediction,
        ),
    )


def decoding(job: Job) -> Decoding:
    """How the answer was decoded so far."""
    tally, seconds = job.tally, job.tally.first_token_seconds
    speed = tally.tokens_per_second
    choice = job.answered_by
    return Decoding(
        strategy=choice.strategy,
        reason=choice.reason,
        history=job.history,
        lossless=choice.lossless,
        bit_exact=job.engine.bit_exact,
        model_steps=tally.steps,
        steps_saved=tally.steps_saved,
        drafted_tokens=tally.drafted,
        accepted_tokens=tally.accepted,
        sources={name: _use(counts) for name, counts in tally.sources.items()},
        time_to_first_token_ms=None if seconds is None else round(seconds * 1000, 3),
        tokens_per_second=None if speed is None else round(speed, 2),
        figures=choice.figures(tally.sources) or UNSET,
        branches=Branches.of(tally.branches) if tally.branches.branches else UNSET,
        fallback=_fallback(job) if tally.fallbacks else UNSET,
        budget=list(map(_budget_step, tally.explanations)) if job.explains_drafts else UNSET,
    )


def _fallback(job: Job) -> Fallback:
    strategy = job.requests[0].fallback.strategy
    return Fallback(job.tally.fallbacks, strategy, job.tally.fallback_reason)


def _use(counts: SourceCounts) -> SourceUse:
    return SourceUse(counts.drafts, counts.drafted, counts.accepted)


def _budget_step(entry: tuple[int, Explanation]) -> BudgetStep:
    choice, said = entry
    batch = _batch(said.decision) if said.decision else None
    return BudgetStep(choice, said.proposed, said.granted, said.accepted, batch)


def _batch(decision: Decision) -> Batch:
    return Batch(
        sequences=decision.sequences,
        context_tokens=decision.context_tokens,
        proposed=decision.proposed,
        granted=decision.granted,
        expected_tokens=round(decision.expected_tokens, 2),
        plain_forward_ms=round(decision.plain_seconds * 1000, 3),
        forward_ms=round(decision.seconds * 1000, 3),
        least_chance=round(decision.least_chance, 3),
    )
