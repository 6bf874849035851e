"""Runs the server: one worker with the engine, the HTTP app before it, a summary when it is up."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI
from rich.console import Console
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from decoding.models import ModelFiles
from decoding.options import Limits, LoadOptions
from server import limits
from server.app import create_app
from server.frames import Load
from server.metrics import Metrics
from server.settings import Settings
from server.summary import summary
from server.worker import EngineFailed, Worker

_SECONDS_TO_DRAIN = 5


def serve(settings: Settings, model: ModelFiles) -> int:
    """Serve until interrupted; returns the exit code."""
    started = time.monotonic()
    try:
        listener = socket.create_server((settings.host, settings.port), reuse_port=False)
    except OSError as error:
        sys.stderr.write(
            f"stride: cannot listen on {settings.host}:{settings.port}: {error.strerror}\n"
        )
        return 1
    return _Service(settings, model, started).run(listener)


class _Service:
    def __init__(self, settings: Settings, model: ModelFiles, started: float) -> None:
        self._settings = settings
        self._started = started
        self._failure: EngineFailed | None = None
        metrics = Metrics(model.name)
        self._worker = Worker(_load(settings, model), metrics.observe_step)
        app = create_app(
            engine=self._worker,
            tokenizer=_tokenizer(model),
            model_names=list(filter(None, [settings.served_model_name, model.name])),
            metrics=metrics,
            api_keys=settings.accepted_keys(),
            limits=limits.Limits(n=settings.max_choices, body_bytes=settings.max_body_bytes),
            lifespan=self._lifespan,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_SECONDS_TO_DRAIN,
            )
        )

    def run(self, listener: socket.socket) -> int:
        with listener, suppress(KeyboardInterrupt):
            self._server.run(sockets=[listener])
        if self._failure is None:
            return 0
        sys.stderr.write(f"stride: {self._failure}\n")
        return 1

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """The HTTP side answers at once (not ready yet) while the engine loads beside it."""
        starting = asyncio.create_task(self._start())
        try:
            yield
        finally:
            starting.cancel()
            await self._worker.stop()

    async def _start(self) -> None:
        try:
            info = await self._worker.start()
        except EngineFailed as error:
            self._failure = error
            self._server.should_exit = True
            return
        url = f"http://{self._settings.host}:{self._settings.port}"
        ready_seconds = time.monotonic() - self._started
        Console().print(summary(info, self._settings, url, ready_seconds), soft_wrap=True)


def _load(settings: Settings, model: ModelFiles) -> Load:
    return Load(
        directory=str(model.directory),
        name=model.name,
        log_level=settings.log_level,
        options=LoadOptions(
            dtype=settings.dtype,
            device=settings.device,
            threads=settings.threads,
            cache_tokens=settings.cache_tokens,
            context_length=settings.context_length,
            self_check=settings.self_check,
            limits=Limits(
                step_tokens=settings.max_step_tokens,
                running=settings.max_running,
                prefix_cache=settings.prefix_cache,
            ),
        ),
    )


def _tokenizer(model: ModelFiles) -> PreTrainedTokenizerBase:
    if (model.directory / "tokenizer.json").exists():
        # The general class reads everything from this file; the automatic one would load torch
        # into this process for it, which takes seconds and 270 MB.
        return PreTrainedTokenizerFast.from_pretrained(model.directory)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model.directory)
