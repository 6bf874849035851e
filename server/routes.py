"""The endpoints: each parses, calls and shapes; what it works with is on the app's state."""

import time
from contextlib import ExitStack
from typing import cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.answers import NewWriter, chat_writers, completion_writers, events, whole_answer
from server.chat import chat_tokens, prompt_tokens
from server.checks import check_model
from server.deadline import deadline_of
from server.disconnect import first_unless_gone, unless_gone
from server.documents import check_documents
from server.errors import draining, invalid
from server.generation import run
from server.jobs import Caller, Job, chat_job, completion_job
from server.json_body import read_object
from server.probes import readiness
from server.prompts import check_vocabulary
from server.responses import EventStream, JsonResponse
from server.schemas import ChatBody, CompletionBody, DetokenizeBody, Generation, TokenizeBody
from server.services import Services
from server.shell import CHAT_PATH, COMPLETIONS_PATH
from server.strict_body import parse
from server.tokenizer import off_loop_if_long

router = APIRouter()


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def _tenant(request: Request) -> str:
    return getattr(request.state, "tenant", "")


def _check_open(services: Services, request: Request) -> None:
    """Refuse what could not be answered now before its body is read."""
    if services.engine.is_draining:
        raise draining()
    services.admission.check_room(_tenant(request))


def _caller(request: Request, body: Generation, arrived: float, held: ExitStack) -> Caller:
    return Caller(
        arrived=arrived,
        held=held,
        tenant=_tenant(request),
        request_id=request.state.request_id,
        deadline=deadline_of(request.headers, body.deadline),
    )


@router.post(CHAT_PATH)
async def chat_completions(request: Request) -> Response:
    """Continue a conversation."""
    services, arrived = _services(request), time.monotonic()
    _check_open(services, request)
    raw = await read_object(request, services.limits)
    _check_message_count(raw, services.limits.messages)
    check_documents(raw.get("documents"), services.limits)
    body = parse(ChatBody, raw)
    with ExitStack() as held:
        job = await chat_job(services, body, _caller(request, body, arrived, held))
        writers = chat_writers(job, services.tokenizer.texts)
        return await _answer(request, body, job, writers, held)


@router.post(COMPLETIONS_PATH)
async def completions(request: Request) -> Response:
    """Continue a text."""
    services, arrived = _services(request), time.monotonic()
    _check_open(services, request)
    raw = await read_object(request, services.limits)
    check_documents(raw.get("documents"), services.limits)
    body = parse(CompletionBody, raw)
    with ExitStack() as held:
        job = await completion_job(services, body, _caller(request, body, arrived, held))
        writers = completion_writers(job, services.tokenizer.texts, echo=body.echo)
        return await _answer(request, body, job, writers, held)


def _check_message_count(raw: dict[str, object], limit: int) -> None:
    messages = raw.get("messages")
    if isinstance(messages, list) and len(messages) > limit:
        raise invalid(f"'messages' holds {len(messages)}, at most {limit} are taken", "messages")


async def _answer(
    request: Request, body: Generation, job: Job, new_writer: NewWriter, held: ExitStack
) -> Response:
    """Answer at once, or begin a stream, which takes over what is held."""
    request.state.choice = job.choice
    request.state.facts = job.facts
    parts = run(_services(request), job)
    if not body.stream:
        answer = await unless_gone(request.receive, whole_answer(job, parts, new_writer))
        request.state.choice = job.answered_by
        return JsonResponse(answer)
    # Awaited before the headers leave, so that an early failure still has its status.
    first = await first_unless_gone(request.receive, parts)
    request.state.choice = job.answered_by
    own = held.pop_all()
    frames = events(
        job, first, parts, new_writer, include_usage=body.include_usage, on_over=own.close
    )
    return EventStream(frames, source=parts, held=own)


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the names under which the model is served."""
    services = _services(request)
    return JsonResponse(
        {"object": "list", "data": [_model(services, name) for name in services.model_names]}
    )


@router.get("/v1/models/{name:path}")
async def model(request: Request) -> Response:
    """Describe the model."""
    services, name = _services(request), str(request.path_params["name"])
    check_model(services, name)
    return JsonResponse(_model(services, name))


def _model(services: Services, name: str) -> dict[str, str | int | None]:
    return {
        "id": name,
        "object": "model",
        "created": services.started,
        "owned_by": "stride",
        "root": services.model_names[0],
        "max_model_len": services.context_limit,
    }


@router.api_route("/ready", methods=["GET", "HEAD"])
async def ready(request: Request) -> Response:
    """Say whether a request would be answered now, and if not, why."""
    return readiness(_services(request).reason_not_ready)


@router.post("/tokenize")
async def tokenize(request: Request) -> Response:
    """Show the ids that the model sees for a prompt or a conversation."""
    services = _services(request)
    raw = await read_object(request, services.limits)
    _check_message_count(raw, services.limits.messages)
    body = parse(TokenizeBody, raw)
    _check_optional_model(services, body.model)
    if body.messages is not None:
        tokens = await chat_tokens(services.tokenizer, body.messages)
    else:
        tokens = await prompt_tokens(services.tokenizer, body.prompt or "")
    return JsonResponse(
        {"tokens": tokens, "count": len(tokens), "max_model_len": services.context_limit}
    )


@router.post("/detokenize")
async def detokenize(request: Request) -> Response:
    """Show the text of token ids."""
    services = _services(request)
    body = parse(DetokenizeBody, await read_object(request, services.limits))
    _check_optional_model(services, body.model)
    check_vocabulary(body.tokens, services.tokenizer.size, "tokens")
    decode = services.tokenizer.decode
    return JsonResponse({"prompt": await off_loop_if_long(len(body.tokens), decode, body.tokens)})


def _check_optional_model(services: Services, name: str | None) -> None:
    if name is not None:
        check_model(services, name)
