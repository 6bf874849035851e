"""HTTP/1.1 as uvicorn speaks it, with limits where it has none: slow and oversized headers."""

import asyncio
import sys

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from server.errors import ApiError, headers_too_slow, malformed_request

HEADER_BYTES = 64 * 1024
HEADER_SECONDS = 10.0


class _HeadTooLarge(Exception):
    """The head of a request has more than ``HEADER_BYTES``."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed when the head of a request does not arrive in time.

    What is left of a request that was answered before its end has as long: it is read, so that the
    client gets to the answer, and dropped. What is refused before there is a request is told in
    OpenAI's shape, too, after the answers to what came before it.
    """

    header_seconds = HEADER_SECONDS
    _head_is_due: asyncio.TimerHandle | None = None
    _rest_is_due: asyncio.TimerHandle | None = None
    _head_bytes = 0  # of a head that is not whole yet
    _reads_body = False
    _num_unanswered = 0  # requests whose heads were read
    _refusal: ApiError | None = None  # to be told after the answers in progress

    # --- from the transport ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Read on; a request that begins here has to be whole before long, too."""
        if self._refusal is not None or self.transport.is_closing():
            return  # nothing behind it counts
        if not self._reads_body:
            self._head_bytes += len(data)
            self._expect_head()
        super().data_received(data)
        if not self._reads_body and self._head_bytes > HEADER_BYTES:
            self._refuse(_too_large())

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._stop_waiting()
        if self._rest_is_due is not None:
            self._rest_is_due.cancel()
        super().connection_lost(exc)

    # --- from the parser ---

    def on_message_begin(self) -> None:
        """Another one, perhaps right behind the last."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Answer it, unless its head is too large."""
        self._stop_waiting()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEADER_BYTES:
            raise _HeadTooLarge
        self._reads_body = True
        self._num_unanswered += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is here."""
        self._reads_body = False
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong with what could not be parsed."""
        problem = sys.exception()
        is_too_large = isinstance(problem and problem.__context__, _HeadTooLarge)
        self._refuse(_too_large() if is_too_large else malformed_request(400, str(problem or msg)))

    # --- from the answer ---

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        self._num_unanswered -= 1
        super().on_response_complete()
        if self._refusal is not None and not self._num_unanswered:
            self._close_with(self._refusal)
        elif self._is_answered_early:
            self._rest_is_due = self.loop.call_later(self.header_seconds, self._rest_is_late)

    # --- waiting ---

    def _expect_head(self) -> None:
        if self._head_is_due is None:
            self._head_is_due = self.loop.call_later(self.header_seconds, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None

    def _head_is_late(self) -> None:
        self._head_is_due = None
        if not self._reads_body and not self.transport.is_closing():
            self._refuse(headers_too_slow(self.header_seconds))

    @property
    def _is_answered_early(self) -> bool:
        return self._reads_body and not self._num_unanswered

    def _rest_is_late(self) -> None:
        if self._is_answered_early:  # or else this is another request by now
            self.transport.close()

    # --- refusing ---

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error and close, if or as soon as it is this side's turn to speak."""
        if self._reads_body and self.pipeline:
            self.pipeline.popleft()  # it is this one that cannot be read, and it was not begun
            self._num_unanswered -= 1
            self._refusal = error
        elif self._reads_body and self.cycle.response_started:
            self.transport.close()
        elif self._reads_body or not self._num_unanswered:
            self._close_with(error)
        else:
            self._refusal = error

    def _close_with(self, error: ApiError) -> None:
        body = bytes(error.response().body)
        head = (
            STATUS_LINE[error.status] + b"content-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()


def _too_large() -> ApiError:
    return malformed_request(431, f"its head has more than {HEADER_BYTES} bytes")
