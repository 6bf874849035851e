"""Builds the HTTP app over an upstream. Reads no settings and keeps no global state."""

import time
from collections.abc import Sequence

from fastapi import FastAPI
from starlette.types import Lifespan

from server.limits import Limits
from server.metrics import Metrics
from server.scheduler import DEFAULT_POLICY, Policy
from server.shell import new_app
from server.tracing import Traces
from server.upstream.client import Upstream
from server.upstream.metrics import StateCollector
from server.upstream.routes import router
from server.upstream.services import Services
from server.wordings import Wordings


def create_app(
    *,
    upstream: Upstream,
    model_names: Sequence[str],
    metrics: Metrics,
    policy: Policy = DEFAULT_POLICY,
    wordings: Wordings | None = None,
    api_keys: Sequence[str] = (),
    limits: Limits | None = None,
    traces: Traces | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """The app that serves one model of an upstream, whose own name for it is the last one."""
    services = Services(
        upstream=upstream,
        metrics=metrics,
        policy=policy,
        wordings=wordings or Wordings(),
        model_names=tuple(model_names),
        limits=limits or Limits(),
        started=int(time.time()),
    )
    metrics.registry.register(
        StateCollector(model_names[-1], lambda: len(services.exchanges), lambda: upstream.ready)
    )
    return new_app(router, services, metrics, api_keys=api_keys, traces=traces, lifespan=lifespan)
