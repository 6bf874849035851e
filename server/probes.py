"""What machines ask of any app of ours: whether it lives, how it is doing, which release it is."""

from asyncio import to_thread

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.metrics import CONTENT_TYPE, Metrics, stride_version
from server.responses import JsonResponse

router = APIRouter()


@router.api_route("/health", methods=["GET", "HEAD"])
async def health() -> Response:
    """Say that this process lives."""
    return JsonResponse({"status": "ok"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Show the counters to Prometheus."""
    shown: Metrics = request.app.state.metrics
    # Beside the event loop: it takes as long as some forwards.
    return Response(await to_thread(shown.render), media_type=CONTENT_TYPE)


@router.get("/version")
async def version() -> Response:
    """Say which release this is."""
    return JsonResponse({"version": stride_version()})


def readiness(reason: str | None) -> Response:
    """The answer of ``/ready``: whether a request would be answered now, and if not, why."""
    if reason is None:
        return JsonResponse({"status": "ready"})
    return JsonResponse({"status": "not ready", "reason": reason}, status_code=503)
