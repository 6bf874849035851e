"""The endpoints of this mode: the same as with an engine, without what needs its tokenizer."""

import time
from typing import cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.deadline import deadline_in, deadline_of
from server.disconnect import first_unless_gone, unless_gone
from server.errors import ApiError, draining, invalid, unknown_model
from server.json_body import read_object
from server.probes import readiness
from server.responses import EventStream, JsonResponse
from server.shell import CHAT_PATH, COMPLETIONS_PATH
from server.upstream.choice import Endpoint, chosen
from server.upstream.exchange import Exchange
from server.upstream.reply import events, reply, whole
from server.upstream.services import Services

router = APIRouter()


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


@router.post(CHAT_PATH)
async def chat_completions(request: Request) -> Response:
    """Continue a conversation."""
    return await _answer(request, "chat")


@router.post(COMPLETIONS_PATH)
async def completions(request: Request) -> Response:
    """Continue a text."""
    return await _answer(request, "completions")


async def _answer(request: Request, endpoint: Endpoint) -> Response:
    services, arrived = _services(request), time.monotonic()
    raw = await read_object(request, services.limits)
    _check(services, raw)
    choice = chosen(raw, endpoint, services.load, services.policy)
    request.state.choice = choice
    exchange = Exchange(
        services=services,
        endpoint=endpoint,
        raw=raw,
        choice=choice,
        arrived=arrived,
        allowed=deadline_of(request.headers, deadline_in(raw)),
    )
    request.state.facts = exchange.facts
    frames = reply(exchange)
    if not exchange.streams:
        content = await unless_gone(request.receive, whole(frames))
        request.state.choice = exchange.answered_by
        return Response(content, media_type="application/json")
    # Awaited before the headers leave, so that an early failure still has its status.
    first = await first_unless_gone(request.receive, frames)
    request.state.choice = exchange.answered_by
    return EventStream(events(first, frames), source=frames)


def _check(services: Services, raw: dict[str, object]) -> None:
    """What has to be right before the body can go on to the upstream, which checks the rest."""
    if services.upstream.is_draining:
        raise draining()
    model, stream = raw.get("model"), raw.get("stream")
    if not isinstance(model, str):
        raise invalid("'model' is required", "model")
    _check_model(services, model)
    if stream is not None and not isinstance(stream, bool):
        raise invalid("'stream' must be true or false", "stream")


def _check_model(services: Services, model: str) -> None:
    if model not in services.model_names:
        raise unknown_model(model, services.model_names)


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the names under which the upstream's model is served."""
    services = _services(request)
    data = [_model(services, name) for name in services.model_names]
    return JsonResponse({"object": "list", "data": data})


@router.get("/v1/models/{name:path}")
async def model(request: Request) -> Response:
    """Describe the model."""
    services, name = _services(request), str(request.path_params["name"])
    _check_model(services, name)
    return JsonResponse(_model(services, name))


def _model(services: Services, name: str) -> dict[str, str | int]:
    return {
        "id": name,
        "object": "model",
        "created": services.started,
        "owned_by": "stride",
        "root": services.model_names[-1],
    }


@router.api_route("/ready", methods=["GET", "HEAD"])
async def ready(request: Request) -> Response:
    """Say whether the upstream can be reached, and if not, why."""
    upstream = _services(request).upstream
    reason = "draining" if upstream.is_draining else (await upstream.look()).reason_not_ready
    return readiness(reason)


@router.post("/tokenize")
@router.post("/detokenize")
async def no_tokenizer() -> Response:
    """Say that there is none here."""
    message = "Not available over an upstream: the model's tokenizer is there, not here"
    raise ApiError(404, message, code="no_tokenizer", rejection="invalid")
