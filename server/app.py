"""Builds the HTTP app from its collaborators. Reads no settings and keeps no global state."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.types import Lifespan

from server.admission import Admission, Caps
from server.engine_client import EngineClient
from server.history import History
from server.limits import Limits
from server.metrics import Metrics
from server.routes import router
from server.scheduler import DEFAULT_POLICY, Policy
from server.services import Services
from server.shell import new_app
from server.tokenizer import Tokenizer
from server.tracing import Traces
from server.wordings import Wordings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def create_app(
    *,
    engine: EngineClient,
    tokenizer: "PreTrainedTokenizerBase",
    model_names: Sequence[str],
    metrics: Metrics,
    history: History | None = None,
    policy: Policy = DEFAULT_POLICY,
    wordings: Wordings | None = None,
    api_keys: Sequence[str] = (),
    limits: Limits | None = None,
    caps: Caps | None = None,
    traces: Traces | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """The app that serves one engine under the given names, the model's own name first."""
    services = Services(
        engine=engine,
        admission=Admission(caps or Caps(), lambda: _prefill_rate(engine)),
        tokenizer=Tokenizer(tokenizer),
        metrics=metrics,
        history=history or History(0),
        policy=policy,
        wordings=wordings or Wordings(),
        model_names=tuple(model_names),
        limits=limits or Limits(),
        started=int(time.time()),
    )
    metrics.watch(engine)
    metrics.limit(services.admission.caps.answers)
    return new_app(router, services, metrics, api_keys=api_keys, traces=traces, lifespan=lifespan)


def _prefill_rate(engine: EngineClient) -> float | None:
    """Prompt tokens a second, by the price of the largest forward that was measured."""
    if engine.info is None or engine.info.cost is None:
        return None
    rows, seconds = max(engine.info.cost.by_rows.items())
    return rows / seconds if seconds else None
