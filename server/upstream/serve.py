"""Runs the server over an upstream: finds the model, starts the app, says what it serves."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI
from rich.console import Console

from server import tracing
from server.limits import Limits
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
from server.settings import Settings, SettingsError
from server.summary import page
from server.tracing import Traces
from server.upstream.app import create_app
from server.upstream.choice import STRATEGIES
from server.upstream.client import Look, Target, Upstream
from server.upstream.metrics import CallMetrics
from server.upstream.summary import facts
from server.wordings import Wordings


def serve(settings: Settings) -> int:
    """Serve until interrupted; returns the exit code.

    Raises:
        SettingsError: the upstream's model is not named, and cannot be found out.
    """
    started = time.monotonic()
    log_to_the_console(settings.log_level)
    target = with_model(target_of(settings))
    try:
        traces = tracing.start(settings.traces_endpoint)
        listener = listen(settings)
    except tracing.TracesUnavailable as error:
        return fail(str(error))
    except OSError as error:
        return fail(str(error.strerror))
    with listener:
        app = _app(settings, target, traces, started)
        upstream = app.state.services.upstream
        prefer_the_event_loop()
        Server(app, upstream, settings.drain_seconds).run(sockets=[listener])
    return 0


def show(settings: Settings) -> int:
    """Print what would be served; returns the exit code."""
    target = with_model(target_of(settings))
    console = Console(highlight=False)
    for label, value in facts(target, asyncio.run(_look(target))):
        console.print(f"  [dim]{label:<12}[/dim]", end="")
        console.print(value, markup=False, soft_wrap=True)
    return 0


def target_of(settings: Settings) -> Target:
    """Whom to call, by these settings."""
    return Target(
        base=settings.upstream or "",
        model=settings.upstream_model or "",
        key=settings.key_of_upstream(),
        prefill=settings.upstream_prefill,
        parallel=settings.upstream_parallel,
        connections=settings.upstream_connections,
        timeout=settings.upstream_timeout,
        retries=settings.upstream_retries,
    )


def with_model(target: Target) -> Target:
    """The target with the only model that the upstream has, if none is named.

    Raises:
        SettingsError: it has others as well, or does not say.
    """
    if target.model:
        return target
    look = asyncio.run(_look(target))
    names = sorted({model.id for model in look.models})
    if len(names) == 1:
        return replace(target, model=names[0])
    reason = look.reason_not_ready or "the upstream does not say which models it has"
    if names:
        others = ", …" if len(names) > 5 else ""
        reason = f"the upstream has {len(names)} models ({', '.join(names[:5])}{others})"
    raise SettingsError(f"{reason}: name the one to use by --upstream-model")


async def _look(target: Target) -> Look:
    upstream = Upstream(target, CallMetrics(Metrics(target.model, STRATEGIES)))
    try:
        return await upstream.look()
    finally:
        await upstream.leave()


def _app(settings: Settings, target: Target, traces: Traces | None, started: float) -> FastAPI:
    metrics = Metrics(target.model, STRATEGIES)
    upstream = Upstream(target, CallMetrics(metrics))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(announce())
        try:
            async with watching(metrics.observe_loop_lag):
                yield
        finally:
            looking.cancel()
            await upstream.leave()
            if traces is not None:
                await asyncio.to_thread(traces.close)

    async def announce() -> None:
        lines = facts(target, await upstream.look())
        text = page(lines, settings, address(settings), target.model, time.monotonic() - started)
        Console().print(text, soft_wrap=True)

    return create_app(
        upstream=upstream,
        model_names=list(filter(None, [settings.served_model_name, target.model])),
        metrics=metrics,
        policy=Policy(
            options=settings.options_of_strategies(),
            lossless_only=settings.lossless_only,
            skeleton_beside=settings.skeleton_beside,
        ),
        wordings=Wordings(settings.wordings),
        api_keys=settings.accepted_keys(),
        limits=Limits(body_bytes=settings.max_body_bytes),
        traces=traces,
        lifespan=lifespan,
    )
