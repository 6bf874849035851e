"""The app on a real port: what only a socket shows."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from server.http_protocol import BoundedProtocol


@asynccontextmanager
async def on_a_port(
    app: FastAPI, protocol: type[BoundedProtocol] = BoundedProtocol
) -> AsyncIterator[int]:
    """Serve until the end of the block; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=protocol,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
