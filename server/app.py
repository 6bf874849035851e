"""Builds the HTTP app from its collaborators. Reads no settings and keeps no global state."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Lifespan

from server.admission import Admission, Caps
from server.disconnect import ClientGone
from server.engine_client import EngineClient
from server.errors import ApiError, http_error
from server.history import History
from server.limits import Limits
from server.metrics import Metrics, stride_version
from server.middleware import Authentication, RequestContext
from server.routes import CHAT_PATH, COMPLETIONS_PATH, router
from server.scheduler import DEFAULT_POLICY, Policy
from server.services import Services
from server.tokenizer import Tokenizer
from server.wordings import Wordings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLIENT_CLOSED_REQUEST = 499  # nobody reads it; proxies' logs know the number
_GENERATING = {CHAT_PATH: "chat", COMPLETIONS_PATH: "completions"}


def create_app(
    *,
    engine: EngineClient,
    tokenizer: "PreTrainedTokenizerBase",
    model_names: Sequence[str],
    metrics: Metrics,
    history: History | None = None,
    policy: Policy = DEFAULT_POLICY,
    wordings: Wordings | None = None,
    api_keys: Sequence[str] = (),
    limits: Limits | None = None,
    caps: Caps | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """The app that serves one engine under the given names, the model's own name first."""
    app = FastAPI(
        openapi_url=None,  # bodies are parsed by us, so a generated schema would not show them
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=_middleware(api_keys, metrics),
        exception_handlers={
            ApiError: _on_api_error,
            ClientGone: _on_client_gone,
            HTTPException: _on_http_error,
        },
    )
    app.state.services = Services(
        engine=engine,
        admission=Admission(caps or Caps(), lambda: _prefill_rate(engine)),
        tokenizer=Tokenizer(tokenizer),
        metrics=metrics,
        history=history or History(0),
        policy=policy,
        wordings=wordings or Wordings(),
        model_names=tuple(model_names),
        limits=limits or Limits(),
        version=stride_version(),
        started=int(time.time()),
    )
    app.include_router(router)
    metrics.watch(engine)
    metrics.limit(app.state.services.admission.caps.answers)
    return app


def _prefill_rate(engine: EngineClient) -> float | None:
    """Prompt tokens a second, by the price of the largest forward that was measured."""
    if engine.info is None or engine.info.cost is None:
        return None
    rows, seconds = max(engine.info.cost.by_rows.items())
    return rows / seconds


def _middleware(api_keys: Sequence[str], metrics: Metrics) -> list[Middleware]:
    context = Middleware(RequestContext)
    if not api_keys:
        return [context]
    return [context, Middleware(Authentication, api_keys=api_keys, metrics=metrics)]


async def _on_api_error(request: Request, error: ApiError) -> Response:
    if error.rejection is not None:
        metrics: Metrics = request.app.state.services.metrics
        metrics.rejected(error.rejection)
        if endpoint := _GENERATING.get(request.scope["path"]):
            metrics.refused(endpoint, error.status)
    return error.response()


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    return http_error(error.status_code, error.headers).response()


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
