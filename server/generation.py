"""Runs a job through the engine: merges its prompts, counts, and says how it ended."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from decoding.request import Output
from server.deadline import in_time
from server.engine_client import EngineDied
from server.errors import ApiError, choice_failed, engine_aborted, engine_died, internal_error
from server.jobs import Job
from server.merging import merged
from server.services import Services

_log = logging.getLogger(__name__)


class Part(NamedTuple):
    """What one step added to one choice of the answer."""

    choice: int  # prompt-major
    output: Output


async def run(services: Services, job: Job) -> AsyncGenerator[Part]:
    """Yield the parts of an answer as they come. Closing aborts the work in the engine.

    Raises (while iterating):
        ApiError: the engine failed.
    """
    _begin(services, job)
    try:
        async with (
            aclosing(_outputs(services, job)) as untimed,
            aclosing(in_time(untimed, job.tally.arrived, job.deadline)) as outputs,
        ):
            async for number, output in outputs:
                part = _counted(services, job, number, output)
                _raise_if_failed(output)
                yield part
    except (GeneratorExit, asyncio.CancelledError):
        services.metrics.cancelled(job.tally)
        _finish(services, job, 499)
        raise
    except EngineDied as error:
        _finish(services, job, 503)
        raise engine_died() from error
    except ApiError as error:
        if error.status == 408 and not job.tally.completion_tokens:
            services.metrics.rejected("deadline")
        _finish(services, job, error.status)
        raise
    except Exception as error:
        _log.exception("request %s failed", job.id)
        _finish(services, job, 500)
        raise internal_error(job.id) from error
    else:
        _finish(services, job, 200)
        _remember(services, job)


def _begin(services: Services, job: Job) -> None:
    job.tally.handed_on = time.monotonic()
    services.metrics.observe_admission(job.choice.strategy, job.tally)
    services.metrics.observe_history(job.history)
    services.metrics.observe_choice(job.choice)


def _counted(services: Services, job: Job, number: int, output: Output) -> Part:
    """The part that an output of a prompt is, once it is counted."""
    metrics, strategy, tally = services.metrics, job.choice.strategy, job.tally
    part = Part(number * job.n + output.index, output)
    is_first = tally.first_token_seconds is None
    gap = tally.add(part.choice, output)
    metrics.observe_output(strategy, output, gap)
    if output.fallback is not None:
        metrics.fell_back(strategy, job.requests[number].fallback.strategy)
    if is_first and (seconds := tally.first_token_seconds) is not None:
        metrics.observe_first_token(strategy, seconds, tally.prefill_seconds)
        services.admission.weigh(job.permit, 0)
    return part


def _finish(services: Services, job: Job, status: int) -> None:
    seconds = time.monotonic() - job.tally.arrived
    services.metrics.observe_finished(job.endpoint, job.choice.strategy, status, job.tally, seconds)


def _remember(services: Services, job: Job) -> None:
    """Keep whole answers for the next time that something like it is asked."""
    for number, choice in sorted(job.tally.choices.items()):
        prompt, request = job.prompts[number // job.n], job.requests[number // job.n]
        services.history.remember(request.cache_salt, prompt.tokens, prompt.question, choice.answer)


def _raise_if_failed(output: Output) -> None:
    if output.finish_reason == "error":
        raise choice_failed(output.error)
    if output.finish_reason == "abort":
        raise engine_aborted()


def _outputs(services: Services, job: Job) -> AsyncGenerator[tuple[int, Output]]:
    """The outputs of all prompts of the job, with the number of the prompt."""
    generate = services.engine.generate
    return merged([generate(request, is_whole=job.is_whole) for request in job.requests])
