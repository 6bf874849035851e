"""What every request passes: its id, the last net under errors, and the API key."""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import request_log
from server.errors import internal_error, unauthorized
from server.scheduler import Choice

if TYPE_CHECKING:
    from server.metrics import Metrics
    from server.tracing import Traces

OPEN_PATHS = frozenset({"/health", "/ready", "/metrics", "/version"})
_MAX_REQUEST_ID = 128
_log = logging.getLogger(__name__)


class RequestContext:
    """Gives a request its id, says it and the chosen strategy in headers, catches what escapes.

    When it is over, a line of the log tells how it went, and a span if there are traces.
    """

    def __init__(self, app: ASGIApp, traces: "Traces | None" = None) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state, headers = scope.setdefault("state", {}), Headers(scope=scope)
        request_id = state["request_id"] = _request_id(headers)
        status, started = 0, time.monotonic()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), request_id, state.get("choice"))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            _log.exception("request %s failed", request_id)
            if status:
                raise  # the server cuts the connection: the answer must not look complete
            await internal_error(request_id).response()(scope, receive, send_with_headers)
        finally:
            line = request_log.line_of(scope, status, time.monotonic() - started)
            self._tell(line, headers)

    def _tell(self, line: Mapping[str, Any] | None, headers: Headers) -> None:
        if line is None:
            return
        request_log.write(line)
        if self._traces is not None:
            self._traces.record(line, headers, time.time())


def _request_id(headers: Headers) -> str:
    """The client's own id when it is sane, else a new one."""
    sent = headers.get("x-request-id", "")
    is_sane = 0 < len(sent) <= _MAX_REQUEST_ID and sent.isascii() and sent.isprintable()
    return sent if is_sane else f"req-{secrets.token_hex(16)}"


def _add_headers(headers: MutableHeaders, request_id: str, choice: Choice | None) -> None:
    headers["x-request-id"] = request_id
    if choice is not None:
        headers["x-stride-strategy"] = choice.strategy
        headers["x-stride-reason"] = _in_header(choice.reason)


def _in_header(text: str) -> str:
    """What a client or an upstream wrote may be in it: no line's end of theirs ends the header."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return printable.encode("ascii", "replace").decode()


class Authentication:
    """Lets only callers with an API key through, except to the open paths."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str], metrics: "Metrics") -> None:
        self._app = app
        self._hashes = [_hash(key.encode()) for key in api_keys]
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide before a byte of the body is read."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        tenant = self._tenant(value for name, value in scope["headers"] if name == b"authorization")
        if tenant is None:
            self._metrics.rejected("auth")
            await unauthorized().response()(scope, receive, send)
            return
        scope.setdefault("state", {})["tenant"] = tenant
        await self._app(scope, receive, send)

    def _tenant(self, sent: Iterable[bytes]) -> str | None:
        credentials = list(sent)
        if len(credentials) != 1:
            return None
        scheme, _, key = credentials[0].partition(b" ")
        offered = _hash(key)
        # All keys are compared, so that the time taken does not say which one is close.
        matches = [hmac.compare_digest(offered, known) for known in self._hashes]
        return offered.hex()[:32] if scheme.lower() == b"bearer" and any(matches) else None


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
