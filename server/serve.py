"""Runs the server: workers with engines, the HTTP app before it, a summary when it is up."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from hashlib import sha256

from fastapi import FastAPI
from rich.console import Console
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from decoding.models import ModelFiles
from decoding.options import Limits, LoadOptions
from server import limits, tracing
from server.admission import Caps
from server.app import create_app
from server.frames import LoadModel
from server.hardware import device_of, threads_of_each
from server.history import History
from server.listening import (
    Server,
    address,
    fail,
    listen,
    log_to_the_console,
    prefer_the_event_loop,
)
from server.loop_lag import watching
from server.metrics import Metrics
from server.scheduler import Policy
from server.settings import Settings
from server.summary import summary
from server.template_check import check_template
from server.tracing import Traces
from server.wordings import Wordings
from server.worker import EngineFailed, Worker
from server.workers import Workers

_THREADS = 4  # for long prompts; Python's own pool goes on growing whenever all are busy


def serve(settings: Settings, model: ModelFiles) -> int:
    """Serve until interrupted; returns the exit code."""
    started = time.monotonic()
    log_to_the_console(settings.log_level)
    try:
        traces = tracing.start(settings.traces_endpoint)
        listener = listen(settings)
    except tracing.TracesUnavailable as error:
        return fail(str(error))
    except OSError as error:
        return fail(str(error.strerror))
    with listener:
        try:
            tokenizer = _tokenizer(model)
        except Exception as error:  # whatever transformers makes of a broken file
            return fail(
                f"cannot read the tokenizer of {model.name}: {' '.join(str(error).split())}"
            )
        try:
            check_template(tokenizer)
        except ValueError as error:
            return fail(f"cannot serve {model.name}: {error}")
        prefer_the_event_loop()
        return _Service(settings, model, tokenizer, traces, started).run(listener)


class _Service:
    def __init__(
        self,
        settings: Settings,
        model: ModelFiles,
        tokenizer: PreTrainedTokenizerBase,
        traces: Traces | None,
        started: float,
    ) -> None:
        self._settings = settings
        self._traces = traces
        self._started = started
        self._failure: EngineFailed | None = None
        self._metrics = metrics = Metrics(model.name)
        self._history = History(settings.history, settings.history_file, fingerprint(tokenizer))
        self._workers = Workers(
            lambda number: new_worker(settings, model, number, metrics),
            settings.workers,
            metrics.workers,
        )
        app = create_app(
            engine=self._workers,
            tokenizer=tokenizer,
            model_names=list(filter(None, [settings.served_model_name, model.name])),
            metrics=metrics,
            history=self._history,
            policy=_policy(settings),
            wordings=Wordings(settings.wordings),
            api_keys=settings.accepted_keys(),
            caps=_caps(settings),
            limits=limits.Limits(n=settings.max_choices, body_bytes=settings.max_body_bytes),
            traces=traces,
            lifespan=self._lifespan,
        )
        self._server = Server(app, self._workers, settings.drain_seconds)

    def run(self, listener: socket.socket) -> int:
        self._server.run(sockets=[listener])
        return 0 if self._failure is None else fail(str(self._failure))

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """The HTTP side answers at once (not ready yet) while the engine loads beside it."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        self._history.load()
        starting = asyncio.create_task(self._start())
        try:
            async with watching(self._metrics.observe_loop_lag):
                yield
        finally:
            starting.cancel()
            await self._workers.stop()
            self._history.save()
            if self._traces is not None:
                await asyncio.to_thread(self._traces.close)

    async def _start(self) -> None:
        try:
            info = await self._workers.start()
        except EngineFailed as error:
            self._failure = error
            self._server.should_exit = True
            return
        ready_seconds = time.monotonic() - self._started
        text = summary(info, self._settings, address(self._settings), ready_seconds)
        Console().print(text, soft_wrap=True)


def _caps(settings: Settings) -> Caps:
    return Caps(
        answers=settings.max_requests,
        per_key=settings.max_requests_per_key or settings.max_requests,
        first_token_seconds=settings.first_token_seconds,
    )


def _policy(settings: Settings) -> Policy:
    return Policy(
        options=settings.options_of_strategies(),
        consistency_trained=settings.consistency_trained,
        lossless_only=settings.lossless_only,
        skeleton_beside=settings.skeleton_beside,
    )


def new_worker(settings: Settings, model: ModelFiles, number: int, metrics: Metrics) -> Worker:
    """A worker of its own number, not yet started."""
    variables = device_of(number, os.environ) if settings.workers > 1 else {}
    return Worker(what_to_load(settings, model), metrics.observe_step, variables=variables)


def what_to_load(settings: Settings, model: ModelFiles) -> LoadModel:
    """The first frame of a worker that serves the model by these settings."""
    return LoadModel(
        directory=str(model.directory),
        name=model.name,
        log_level=settings.log_level,
        options=LoadOptions(
            dtype=settings.dtype,
            device=settings.device,
            threads=settings.threads or threads_of_each(settings.workers),
            cache_tokens=settings.cache_tokens,
            sharers=settings.workers,
            context_length=settings.context_length,
            self_check=settings.self_check,
            cache_dir=str(settings.cache_dir),
            limits=Limits(
                step_tokens=settings.max_step_tokens,
                running=settings.max_running,
                prefix_cache=settings.prefix_cache,
            ),
        ),
    )


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """What tells two vocabularies apart."""
    vocabulary: str = tokenizer.backend_tokenizer.to_str()
    return sha256(vocabulary.encode()).hexdigest()


def _tokenizer(model: ModelFiles) -> PreTrainedTokenizerBase:
    if (model.directory / "tokenizer.json").exists():
        # The general class reads everything from this file; the automatic one would load torch
        # into this process for it, which takes seconds and 270 MB.
        return PreTrainedTokenizerFast.from_pretrained(model.directory)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model.directory)
