"""A validated body → the engine requests that answer it. All limits are checked here."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, get_args

from msgspec.structs import replace

from decoding.report import EngineInfo
from decoding.request import Decoder, Reference, Request, Sampling, Stopping
from server.admission import Permit, estimated_tokens
from server.chat import chat_tokens
from server.checks import (
    check_context,
    check_counts,
    check_model,
    check_token_ids,
    context_limit,
)
from server.constraints import check_strategy, pinned_by
from server.errors import ApiError, draining, invalid, not_ready
from server.history import Outcome, Recall
from server.prompts import (
    Prompt,
    check_all_text,
    check_vocabulary,
    read_preamble,
    read_prompt,
    split_prompts,
)
from server.references import past_answers, prediction_in, read_references
from server.scheduler import (
    Choice,
    Known,
    check,
    choose,
    explains_drafts,
    strategy_of,
    wants_history,
)
from server.schemas import ChatBody, CompletionBody, Generation
from server.services import Services
from server.stages import Stages, chat_stages, text_stages
from server.tally import Tally

Endpoint = Literal["chat", "completions"]

# Logits divided by less leave the range of float32, and the answer is the greedy one anyway.
MIN_TEMPERATURE = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One HTTP request on its way through the engine: one engine request a prompt."""

    id: str
    endpoint: Endpoint
    model: str
    choice: Choice
    history: Outcome
    engine: EngineInfo
    prompts: Sequence[Prompt]
    requests: Sequence[Request]
    tally: Tally
    permit: Permit
    is_whole: bool  # nothing is sent before all of it is there
    request_id: str = ""
    deadline: float | None = None  # seconds from its arrival
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def n(self) -> int:
        """Choices a prompt."""
        return self.requests[0].n

    @property
    def explains_drafts(self) -> bool:
        """Whether the answer is to say how much was drafted in every step, and why."""
        return self.requests[0].explains_drafts

    @property
    def answered_by(self) -> Choice:
        """The choice as it came out: where all answers fell back, what they fell back to."""
        if self.tally.fallbacks < self.num_choices:
            return self.choice
        return self.choice.fallen_back(self.tally.fallback_reason)

    def facts(self) -> dict[str, str | int | float | None]:
        """What the log says of it: nothing of what was said."""
        tally, first = self.tally, self.tally.first_token_seconds
        return {
            "id": self.id,
            "model": self.model,
            **self.answered_by.facts(),
            "fallback": tally.fallback_reason or None,
            "finish_reason": tally.finish_reason,
            "prompt_tokens": tally.prompt_tokens,
            "cached_tokens": tally.cached_tokens,
            "completion_tokens": tally.completion_tokens,
            "model_steps": tally.steps,
            "steps_saved": tally.steps_saved,
            "drafted_tokens": tally.drafted,
            "accepted_tokens": tally.accepted,
            "first_token_seconds": None if first is None else round(first, 4),
        }

    @property
    def num_choices(self) -> int:
        """Choices of all prompts."""
        return self.n * len(self.prompts)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks: when the request arrived, and which tenant's cache blocks it may share.

    ``held`` is what is given back when the request is over. The answer must be complete
    ``deadline`` seconds after it arrived; None: whenever.
    """

    arrived: float
    held: ExitStack
    tenant: str = ""
    request_id: str = ""
    deadline: float | None = None

    def salt(self, cache_salt: str) -> str:
        """What keeps the cache blocks of tenants, and of salts, apart."""
        return f"{self.tenant}:{cache_salt}" if self.tenant else cache_salt


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A checked body and what is known of it: all that a job is made of."""

    services: Services
    body: Generation
    caller: Caller
    permit: Permit
    engine: EngineInfo
    endpoint: Endpoint
    prompts: Sequence[Prompt]
    max_tokens: int
    logprobs: int | None
    prompt_logprobs: int | None = None
    new_stages: Callable[[Prompt], Awaitable[Stages]]

    @property
    def salt(self) -> str:
        """What keeps its cache blocks and past answers apart from those of others."""
        return self.caller.salt(self.body.cache_salt)

    @property
    def num_prompt_tokens(self) -> int:
        """Of all prompts."""
        return sum(len(prompt.tokens) for prompt in self.prompts)


async def chat_job(services: Services, body: ChatBody, caller: Caller) -> Job:
    """Prepare a chat completion.

    Raises:
        ApiError: the request cannot be answered as it is, or not now.
    """
    engine, permit = _admit(services, body, caller, num_prompts=1)
    prompt = Prompt(
        await chat_tokens(services.tokenizer, body.messages, body.prompt_documents),
        question=body.question,
        has_earlier_turns=body.has_earlier_turns,
    )
    room = context_limit(engine) - len(prompt.tokens)
    max_tokens = body.answer_limit or max(room, 1)
    check_context(engine, prompt, max_tokens, "messages")
    if body.min_tokens > max_tokens:
        raise invalid(
            f"'min_tokens' is over the {max_tokens} tokens there is room for", "min_tokens"
        )
    asked = _Asked(
        services=services,
        body=body,
        caller=caller,
        permit=permit,
        engine=engine,
        endpoint="chat",
        prompts=[prompt],
        max_tokens=max_tokens,
        logprobs=body.top_logprobs if body.logprobs else None,
        new_stages=lambda _: chat_stages(
            services.tokenizer, services.wordings, body.messages, body.prompt_documents
        ),
    )
    return await _job(asked)


async def completion_job(services: Services, body: CompletionBody, caller: Caller) -> Job:
    """Prepare a text completion of one prompt or several.

    Raises:
        ApiError: the request cannot be answered as it is, or not now.
    """
    values = split_prompts(body.prompt, services.limits.prompts)
    if body.prompt_documents:
        check_all_text(values)
    engine, permit = _admit(services, body, caller, num_prompts=len(values))
    preamble = await read_preamble(services.tokenizer, body.prompt_documents)
    prompts = []
    for value in values:
        await asyncio.sleep(0)  # others have their turn between two prompts
        if isinstance(value, list):  # of any length, so that nothing is done for too many
            check_context(engine, Prompt(value), body.answer_limit, "prompt")
            check_vocabulary(value, engine.vocabulary_size, "prompt")
        prompt = await read_prompt(services.tokenizer, value)
        if not prompt.tokens:
            raise invalid("'prompt' must not be empty", "prompt")
        prompt = prompt.after(preamble)
        check_context(engine, prompt, body.answer_limit, "prompt")
        prompts.append(prompt)
    asked = _Asked(
        services=services,
        body=body,
        caller=caller,
        permit=permit,
        engine=engine,
        endpoint="completions",
        prompts=prompts,
        max_tokens=body.answer_limit,
        logprobs=body.logprobs,
        prompt_logprobs=body.logprobs if body.echo else None,
        new_stages=lambda prompt: text_stages(services.tokenizer, services.wordings, prompt.text),
    )
    return await _job(asked)


def _admit(
    services: Services, body: Generation, caller: Caller, num_prompts: int
) -> tuple[EngineInfo, Permit]:
    """Every check that costs nothing and the permit, in front of the work of tokenising."""
    check_model(services, body.model)
    check_counts(services, body.n, num_prompts)
    check(body.decoding)
    check_strategy(body, services.policy)
    if services.engine.is_draining:
        raise draining()
    engine, reason = services.engine.info, services.reason_not_ready
    if engine is None or reason is not None:
        raise not_ready(reason or "the model is loading")
    check_token_ids(body, engine.vocabulary_size)
    tokens = estimated_tokens(body.num_characters)
    permit = services.admission.permit(caller.tenant, body.n * num_prompts, tokens)
    return engine, caller.held.enter_context(permit)


async def _job(asked: _Asked) -> Job:
    services, body, caller = asked.services, asked.body, asked.caller
    services.admission.weigh(asked.permit, asked.num_prompt_tokens)
    recalls = [await _recall(services, body, asked.salt, prompt) for prompt in asked.prompts]
    known = _known(body, asked.prompts, recalls)
    choice = choose(body.decoding, known, services.load, services.policy)
    choice, stages = await _with_stages(asked, choice)
    references = await _references(asked)
    job_id = ("chatcmpl-" if asked.endpoint == "chat" else "cmpl-") + secrets.token_hex(16)
    alike = _request(asked, job_id, choice, references)
    each = zip(asked.prompts, recalls, stages, strict=True)
    return Job(
        id=job_id,
        endpoint=asked.endpoint,
        model=body.model,
        choice=choice,
        history=known.history,
        engine=asked.engine,
        prompts=asked.prompts,
        is_whole=not body.stream,
        requests=[_of_prompt(alike, number, *of) for number, of in enumerate(each)],
        tally=Tally(
            arrived=caller.arrived,
            prompt_tokens=asked.num_prompt_tokens,
            prediction=prediction_in(references),
        ),
        permit=asked.permit,
        request_id=caller.request_id,
        deadline=caller.deadline,
    )


async def _with_stages(asked: _Asked, choice: Choice) -> tuple[Choice, list[Stages]]:
    """The prompts that a strategy needs beside those of the request.

    A choice that was left to us gives way to its fallback if the chat template cannot word them.
    """
    if choice.fallback is None:
        return choice, [{} for _ in asked.prompts]
    try:
        return choice, [await asked.new_stages(prompt) for prompt in asked.prompts]
    except ApiError:
        if strategy_of(asked.body.decoding) == choice.strategy:
            raise
        return choice.fallback, [{} for _ in asked.prompts]


async def _references(asked: _Asked) -> tuple[Reference, ...]:
    return await read_references(
        asked.services.tokenizer,
        asked.body.predicted_text,
        [document.text for document in asked.body.hidden_documents],
        context=context_limit(asked.engine),
        limit=asked.services.limits.reference_tokens // len(asked.prompts),
    )


def _request(
    asked: _Asked, job_id: str, choice: Choice, references: tuple[Reference, ...]
) -> Request:
    """What the requests of all prompts have in common."""
    fallback = choice.fallback or choice
    return Request(
        id=job_id,
        prompt=(),
        sampling=_sampling(asked.body),
        stopping=_stopping(asked.body, asked.max_tokens),
        n=asked.body.n,
        logprobs=asked.logprobs,
        prompt_logprobs=asked.prompt_logprobs,
        strategy=choice.strategy,
        options=choice.options,
        references=references,
        explains_drafts=explains_drafts(asked.body.decoding),
        fallback=Decoder(fallback.strategy, fallback.options),
        cache_salt=asked.salt,
        tenant=asked.caller.tenant,
    )


def _of_prompt(
    alike: Request, number: int, prompt: Prompt, recall: Recall, stages: Stages
) -> Request:
    return replace(
        alike,
        id=f"{alike.id}-{number}",
        prompt=tuple(prompt.tokens),
        stages=stages,
        references=(*alike.references, *past_answers(recall.matches)),
    )


async def _recall(services: Services, body: Generation, tenant: str, prompt: Prompt) -> Recall:
    if not wants_history(body.decoding):
        return Recall("off")
    return await services.history.recall(tenant, prompt.tokens, prompt.question)


def _known(body: Generation, prompts: Sequence[Prompt], recalls: Sequence[Recall]) -> Known:
    """What is known of the first prompt, and the most that was recalled for any."""
    return Known(
        question=prompts[0].question,
        has_earlier_turns=prompts[0].has_earlier_turns,
        has_documents=bool(body.documents),
        has_prediction=bool(body.predicted_text),
        history=min((recall.outcome for recall in recalls), key=get_args(Outcome).index),
        pinned_by="prompt" if len(prompts) > 1 else pinned_by(body),
        answer_limit=body.answer_limit,
    )


def _sampling(body: Generation) -> Sampling:
    return Sampling(
        temperature=body.temperature if body.temperature >= MIN_TEMPERATURE else 0.0,
        top_p=body.top_p,
        top_k=max(body.top_k, 0),
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        logit_bias={int(key): bias for key, bias in body.logit_bias.items()},
        # Engine seeds have 63 bits
        seed=secrets.randbits(63) if body.seed is None else body.seed % 2**63,
    )


def _stopping(body: Generation, max_tokens: int) -> Stopping:
    return Stopping(
        max_tokens=max_tokens,
        min_tokens=body.min_tokens,
        stop=tuple(body.stop),
        stop_token_ids=tuple(body.stop_token_ids),
        ignore_eos=body.ignore_eos,
    )
