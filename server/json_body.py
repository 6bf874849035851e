"""Bytes of a request → a JSON object, refusing everything that is not strictly one."""

import asyncio

import msgspec
from starlette.requests import ClientDisconnect, Request

from server.disconnect import ClientGone
from server.errors import (
    ApiError,
    body_too_large,
    body_too_slow,
    invalid,
    malformed_request,
    shorten,
)
from server.limits import Limits

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


async def read_object(request: Request, limits: Limits) -> dict[str, object]:
    """Read and decode the body. Of a key given twice, the last counts.

    Raises:
        ApiError: the body is too large, too slow, or not a JSON object in UTF-8.
        ClientGone: the client left while sending.
    """
    _check_media_type(request)
    return decode_object(await _read_bytes(request, limits))


def decode_object(raw: bytes) -> dict[str, object]:
    """Decode a JSON object: no NaN, no infinities, no lone surrogates, no absurd nesting."""
    try:
        body = msgspec.json.decode(raw.removeprefix(_BYTE_ORDER_MARK))
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8") from error
    except RecursionError as error:
        raise _malformed("it is nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise _malformed(shorten(str(error))) from error
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object", code="invalid_json")
    return body


def _malformed(reason: str) -> ApiError:
    return invalid(f"The request body is not valid JSON: {reason}", code="invalid_json")


def _check_media_type(request: Request) -> None:
    # A browser sends other types across sites without asking first, so they are not taken as JSON.
    sent = request.headers.get("content-type", "application/json")
    media_type = sent.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise invalid(
            f"The request body must be JSON: send 'content-type: application/json', "
            f"not '{shorten(sent)}'"
        )


async def _read_bytes(request: Request, limits: Limits) -> bytes:
    promised = request.headers.get("content-length", "")
    if promised and "transfer-encoding" in request.headers:  # whoever stood between may disagree
        raise malformed_request(400, "Content-Length and Transfer-Encoding together")
    if promised.isdecimal() and int(promised[:20]) > limits.body_bytes:
        raise body_too_large(limits.body_bytes)
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await _collect(request, limits.body_bytes)
    except TimeoutError as error:
        raise body_too_slow(limits.body_seconds) from error
    except ClientDisconnect as error:
        raise ClientGone from error


async def _collect(request: Request, limit: int) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > limit:
            raise body_too_large(limit)
    return bytes(received)
