"""What machines ask of any app of ours: whether it lives, how it is doing, which release it is."""

import asyncio

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
    text = bytearray()
    for piece in shown.pieces():
        text += piece
        await asyncio.sleep(0)  # nobody is to wait until all of it is there
    return Response(bytes(text), media_type=CONTENT_TYPE)


@router.get("/version")
async def version() -> Response:
    """Say which release this is."""
    return JsonResponse({"version": stride_version()})


def readiness(reason: str | None) -> Response:
    """The answer of ``/ready``: whether a request would be answered now, and if not, why."""
    if reason is None:
        return JsonResponse({"status": "ready"})
    return JsonResponse({"status": "not ready", "reason": reason}, status_code=503)
