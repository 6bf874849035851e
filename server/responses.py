"""How answers leave: JSON bodies and server-sent events. Knows nothing of what they say."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from server.disconnect import ClientGone, unless_gone

DONE = b"data: [DONE]\n\n"

# Line ends to readers that split text by Unicode's rules instead of the event stream's.
_UNICODE_LINE_ENDS = {
    "\x85".encode(): b"\\u0085",
    "\u2028".encode(): b"\\u2028",
    "\u2029".encode(): b"\\u2029",
}
_encoder = msgspec.json.Encoder()


class JsonResponse(Response):
    """A body as JSON. NaN and infinities would become null: they are clamped before."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The body's bytes."""
        return encoded(content)


def encoded(body: object) -> bytes:
    """A body's bytes."""
    return _encoder.encode(body)


def event(body: object) -> bytes:
    """One server-sent event, on one line."""
    line = encoded(body)
    for line_end, escaped in _UNICODE_LINE_ENDS.items():
        if line_end in line:
            line = line.replace(line_end, escaped)
    return b"data: " + line + b"\n\n"


class EventStream(StreamingResponse):
    """Server-sent events. When the client leaves, ``source`` is closed at once.

    ``source`` is what ``frames`` reads from. It is closed on its own because closing a generator
    that was never started does not run the code that would close what is inside it. ``held`` is
    given back at the end. A client that takes nothing for ``patience`` seconds counts as gone.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        source: AsyncGenerator[object],
        held: ExitStack | None = None,
        patience: float = 60.0,
    ) -> None:
        super().__init__(frames, headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._frames = frames
        self._source = source
        self._held = held or ExitStack()
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, until the client leaves or they end."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._patience):
                await send(message)

        with self._held, suppress(ClientGone, TimeoutError):
            async with aclosing(self._source), aclosing(self._frames):
                await unless_gone(receive, self.stream_response(send_in_time))
