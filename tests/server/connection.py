"""One request over raw ASGI, so that its client can leave at any moment."""

import asyncio
import json

from asking import PATHS, Endpoint, body
from fastapi import FastAPI
from starlette.types import Message


class Connection:
    def __init__(
        self,
        app: FastAPI,
        endpoint: Endpoint,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        **fields: object,
    ) -> None:
        self._app = app
        self._path = PATHS[endpoint]
        self._headers = headers
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        content = json.dumps(body(endpoint, **fields)).encode()
        self.inbox.put_nowait({"type": "http.request", "body": content})

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "http.disconnect"})

    async def serve(self) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", b"application/json"), *self._headers],
            "client": None,
            "server": ("test", 80),
        }
        await self._app(scope, self.inbox.get, self.sent.put)
