"""Calls to the upstream: one pool of connections, a deadline for each request, retries."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, cast

import httpx
import msgspec
from httpx_sse import EventSource
from msgspec import Struct

from server.errors import ApiError
from server.upstream.faults import (
    Fault,
    broken_off,
    refusal,
    shut_down,
    timed_out,
    unreachable,
    unreadable,
)
from server.upstream.metrics import CallMetrics

Prefill = Literal["words", "continue", "vllm"]
END = "[DONE]"

_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 2.0  # for the list of models
_FRESH_SECONDS = 5.0  # that this list is believed
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds between tries, doubled each time
_LARGEST_ERROR = 64 * 1024  # bytes
_LARGEST_ANSWER = 64 * 1024 * 1024
_LARGEST_EVENT = 8 * 1024 * 1024
_PREFILL_OF: Mapping[str, Prefill] = {"stride": "continue", "vllm": "vllm"}

# They tell every call, and asked to debug more than that: a header has the key.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whom to call, and how. ``base`` is the address without ``/v1``; times are seconds."""

    base: str
    model: str = ""
    key: str | None = field(default=None, repr=False)
    prefill: Prefill | Literal["auto"] = "auto"
    parallel: int = 8
    connections: int = 64
    timeout: float = 600
    retries: int = 2


class Model(Struct):
    """A model of the upstream's list."""

    id: str
    owned_by: str = ""


class _Models(Struct):
    data: list[Model]


class Look(Struct, frozen=True):
    """What a look at the upstream showed: its models, or why it is of no use now."""

    models: tuple[Model, ...] = ()
    reason_not_ready: str | None = None
    at: float = float("-inf")  # monotonic


class Upstream:
    """The server that answers."""

    def __init__(
        self,
        target: Target,
        metrics: CallMetrics,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.target = target
        self._metrics = metrics
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=target.connections)
        self._http = httpx.AsyncClient(
            base_url=target.base,
            headers=_headers(target.key),
            http2=False,  # httpx never tells an HTTP/2 server that nobody waits for it any more
            follow_redirects=False,
            trust_env=False,
            limits=limits,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),  # the rest is the deadline's
            transport=transport,
        )
        self._slots = asyncio.Semaphore(target.connections)
        self._waits: set[asyncio.Timeout] = set()
        self._is_closing = False
        self.is_draining = False
        self._looking = asyncio.Lock()
        self._look = Look(reason_not_ready="the upstream has not been asked yet")

    @property
    def ready(self) -> bool:
        """Whether it was of use when it was last looked at."""
        return self._look.reason_not_ready is None and not self.is_draining

    def drain(self) -> None:
        """Let requests be told that this server shuts down."""
        self.is_draining = True

    def close(self) -> None:
        """Make all calls in progress fail, and those to come."""
        self._is_closing = True
        now = asyncio.get_running_loop().time()
        for wait in list(self._waits):
            wait.reschedule(now)

    async def leave(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def call(
        self, path: str, body: Mapping[str, object], deadline: float
    ) -> AsyncIterator["Call"]:
        """Ask for an answer, again if need be until it begins. Leaving the context ends the call.

        ``deadline`` is monotonic.

        Raises:
            ApiError: there is no answer.
        """
        content = msgspec.json.encode(body)
        response, started = await self._opened(path, content, deadline)
        try:
            yield Call(self, response, deadline)
        finally:
            await self._closed(response)
            self._metrics.ended(time.monotonic() - started)

    async def look(self) -> Look:
        """Ask which models there are, unless that was done a moment ago."""
        async with self._looking:
            if time.monotonic() - self._look.at > _FRESH_SECONDS:
                self._look = await self._looked()
            return self._look

    async def prefill(self) -> Prefill:
        """How it learns how a text begins; unless it is settled, by who it says it is."""
        if self.target.prefill != "auto":
            return self.target.prefill
        models = self._look.models or (await self.look()).models
        ours = [model for model in models if model.id == self.target.model] or models
        return _PREFILL_OF.get(ours[0].owned_by, "words") if ours else "words"

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncIterator[None]:
        """Bound one wait.

        Raises:
            ApiError: the time is over, or the server ends.
        """
        if self._is_closing:
            raise shut_down()
        try:
            async with asyncio.timeout_at(deadline) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            raise shut_down() if self._is_closing else timed_out(self.target.timeout) from None

    # --- a call ---

    async def _opened(
        self, path: str, content: bytes, deadline: float
    ) -> tuple[httpx.Response, float]:
        """A response whose body is an answer, and when it was asked for."""
        for attempt in count():
            started = time.monotonic()
            try:
                return await self._sent(path, content, deadline), started
            except Fault as fault:
                pause = _pause(attempt, fault)
                is_last = attempt >= self.target.retries or time.monotonic() + pause > deadline
                if is_last or not fault.is_transient:
                    raise fault.error from None
            self._metrics.retried()
            async with self.until(deadline):
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def _sent(self, path: str, content: bytes, deadline: float) -> httpx.Response:
        """The response to one try.

        Raises:
            Fault: it is none.
            ApiError: the deadline has passed.
        """
        headers = {"content-type": "application/json"}
        async with self.until(deadline):
            await self._slots.acquire()
        outcome, response = "cancelled", None
        try:
            async with self.until(deadline):
                request = self._http.build_request("POST", path, content=content, headers=headers)
                response = await self._http.send(request, stream=True)
                outcome = str(response.status_code)
                if response.status_code != 200:
                    said = await _read(response, _LARGEST_ERROR) or b""
                    raise refusal(response.status_code, response.headers, said, self.target.key)
            return response
        except httpx.HTTPError as error:
            outcome = outcome if response is not None else "unreachable"
            raise unreachable() from error
        except ApiError:
            outcome = outcome if response is not None else "timeout"
            raise
        finally:
            self._metrics.called(outcome)
            if outcome != "200":
                await self._closed(response)

    async def _closed(self, response: httpx.Response | None) -> None:
        self._slots.release()
        if response is not None:
            await response.aclose()

    # --- a look ---

    async def _looked(self) -> Look:
        now = time.monotonic()
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                response = await self._http.get("/v1/models")
        except (TimeoutError, httpx.HTTPError):
            return Look(reason_not_ready="the upstream cannot be reached", at=now)
        if response.status_code in (401, 403):
            return Look(reason_not_ready="the upstream refuses this server's key", at=now)
        if response.status_code >= 500:
            reason = f"the upstream answers with status {response.status_code}"
            return Look(reason_not_ready=reason, at=now)
        try:
            listed = msgspec.json.decode(response.content, type=_Models).data
        except (msgspec.MsgspecError, UnicodeDecodeError):
            listed = []  # not every server has the list
        return Look(models=tuple(listed), at=now)


class Call:
    """An answer that has begun."""

    def __init__(self, upstream: Upstream, response: httpx.Response, deadline: float) -> None:
        self._upstream = upstream
        self._response = response
        self._deadline = deadline

    async def whole(self) -> bytes:
        """The body.

        Raises:
            ApiError: it cannot be had.
        """
        async with self._upstream.until(self._deadline):
            try:
                content = await _read(self._response, _LARGEST_ANSWER)
            except httpx.HTTPError as error:
                raise broken_off() from error
        if content is None:
            raise unreadable("it is too large")
        return content

    async def events(self) -> AsyncGenerator[str]:
        """The data of each event, up to the end mark if there is one.

        Raises (while iterating):
            ApiError: it is no stream of events, or breaks off.
        """
        if not self._response.headers.get("content-type", "").startswith("text/event-stream"):
            raise unreadable("it is no stream of events")
        stream = cast(httpx.AsyncByteStream, self._response.stream)
        metered = self._response.stream = _Metered(stream, _LARGEST_EVENT)
        async with aclosing(EventSource(self._response).aiter_sse()) as source:
            while True:
                async with self._upstream.until(self._deadline):
                    try:
                        event = await anext(source, None)
                    except (httpx.HTTPError, httpx.StreamError, UnicodeDecodeError) as error:
                        raise broken_off() from error
                metered.taken = 0
                if event is None or event.data == END:
                    return
                if event.data:
                    yield event.data


class _Metered(httpx.AsyncByteStream):
    """Bytes that become events somewhere; ``taken`` counts those since the latest event.

    Raises (while iterating):
        ApiError: an event has more than ``limit``.
    """

    def __init__(self, stream: httpx.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The same bytes."""
        async for part in self._stream:
            self.taken += len(part)
            if self.taken > self._limit:
                raise unreadable("an event of it is too large")
            yield part

    async def aclose(self) -> None:
        """Leave the connection."""
        await self._stream.aclose()


async def _read(response: httpx.Response, limit: int) -> bytes | None:
    """The body, or None if it is over the limit."""
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > limit:
            return None
    return bytes(content)


def _headers(key: str | None) -> dict[str, str]:
    """Those of every call. What is compressed may be larger than it looks."""
    authorization = {"authorization": f"Bearer {key}"} if key else {}
    return {"accept-encoding": "identity", **authorization}


def _pause(attempt: int, fault: Fault) -> float:
    """Seconds to wait for the next try: longer each time, never less than was asked for."""
    longest = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
    return max(random.uniform(longest / 2, longest), fault.retry_after or 0.0)
