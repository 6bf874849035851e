"""HTTP/1.1 as uvicorn speaks it, with limits where it has none: slow and oversized headers."""

import asyncio
import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.errors import ApiError, headers_too_slow, malformed_request

HEADER_BYTES = 64 * 1024
HEADER_SECONDS = 10.0


class BoundedProtocol(H11Protocol):
    """A connection that is closed when the head of a request does not arrive in time.

    What is left of a request that was answered before its end has as long: it is read, so that the
    client gets to the answer, and dropped. What is refused before there is a request is told in
    OpenAI's shape, too.
    """

    header_seconds = HEADER_SECONDS
    _head_is_due: asyncio.TimerHandle | None = None
    _rest_is_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Read on; a request that begins here has to be whole before long, too."""
        if self.conn.their_state is h11.IDLE and self._head_is_due is None:
            self._expect_head()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._stop_waiting()
        if self._rest_is_due is not None:
            self._rest_is_due.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        super().on_response_complete()
        if self._is_answered_early:
            self._rest_is_due = self.loop.call_later(self.header_seconds, self._rest_is_late)

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong with what h11 could not read."""
        problem = sys.exception()
        hint = problem.error_status_hint if isinstance(problem, h11.RemoteProtocolError) else 400
        self._refuse(malformed_request(hint, str(problem or msg)))

    def _expect_head(self) -> None:
        self._stop_waiting()
        self._head_is_due = self.loop.call_later(self.header_seconds, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None

    def _head_is_late(self) -> None:
        self._head_is_due = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._refuse(headers_too_slow(self.header_seconds))

    @property
    def _is_answered_early(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _rest_is_late(self) -> None:
        if self._is_answered_early:  # or else this is another request by now
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error and close, if it is still this side's turn to speak."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = bytes(error.response().body)
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            for event in (
                h11.Response(status_code=error.status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
