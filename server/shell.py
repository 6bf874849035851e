"""What every app of ours has around its endpoints: request ids, keys, and errors in one shape."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Lifespan

from server import probes
from server.disconnect import ClientGone
from server.errors import ApiError, http_error
from server.metrics import Metrics
from server.middleware import Authentication, RequestContext
from server.tracing import Traces

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
CLIENT_CLOSED_REQUEST = 499  # nobody reads it; proxies' logs know the number
_GENERATING = {CHAT_PATH: "chat", COMPLETIONS_PATH: "completions"}


def new_app(
    router: APIRouter,
    services: object,
    metrics: Metrics,
    *,
    api_keys: Sequence[str] = (),
    traces: Traces | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """An app of these endpoints; what they work with is its state's ``services``."""
    app = FastAPI(
        openapi_url=None,  # bodies are parsed by us, so a generated schema would not show them
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=_middleware(api_keys, metrics, traces),
        exception_handlers={
            ApiError: _on_api_error,
            ClientGone: _on_client_gone,
            HTTPException: _on_http_error,
        },
    )
    app.state.services = services
    app.state.metrics = metrics
    app.include_router(probes.router)
    app.include_router(router)
    return app


def _middleware(
    api_keys: Sequence[str], metrics: Metrics, traces: Traces | None
) -> list[Middleware]:
    context = Middleware(RequestContext, traces=traces)
    if not api_keys:
        return [context]
    return [context, Middleware(Authentication, api_keys=api_keys, metrics=metrics)]


async def _on_api_error(request: Request, error: ApiError) -> Response:
    if error.rejection is not None:
        metrics: Metrics = request.app.state.metrics
        metrics.rejected(error.rejection)
        if endpoint := _GENERATING.get(request.scope["path"]):
            metrics.refused(endpoint, error.status)
    return error.response()


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    return http_error(error.status_code, error.headers).response()


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
