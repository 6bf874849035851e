"""Runs the server: one worker with the engine, the HTTP app before it, a summary when it is up."""

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from types import FrameType

import uvicorn
from fastapi import FastAPI
from rich.console import Console
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from decoding.models import ModelFiles
from decoding.options import Limits, LoadOptions
from server import limits
from server.admission import Caps
from server.app import create_app
from server.frames import LoadModel
from server.history import History
from server.http_protocol import HEADER_BYTES, BoundedProtocol
from server.metrics import Metrics
from server.scheduler import Policy
from server.settings import Settings
from server.summary import summary
from server.wordings import Wordings
from server.worker import EngineFailed, Worker

_SECONDS_TO_DRAIN = 5


def serve(settings: Settings, model: ModelFiles) -> int:
    """Serve until interrupted; returns the exit code."""
    started = time.monotonic()
    _log_to_the_console(settings.log_level)
    try:
        listener = _listen(settings)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # the address follows, a second time
        return _fail(f"cannot listen on {settings.host}:{settings.port}: {reason}")
    with listener:
        try:
            tokenizer = _tokenizer(model)
        except Exception as error:  # whatever transformers makes of a broken file
            return _fail(
                f"cannot read the tokenizer of {model.name}: {' '.join(str(error).split())}"
            )
        return _Service(settings, model, tokenizer, started).run(listener)


def _log_to_the_console(level: str) -> None:
    """Sentences for people on standard error, a line of JSON for each request on the output."""
    logging.basicConfig(level=level.upper(), format="stride: %(message)s")
    requests = logging.getLogger("stride.request")
    requests.addHandler(logging.StreamHandler(sys.stdout))
    requests.propagate = False


def _fail(message: str) -> int:
    sys.stderr.write(f"stride: {message}\n")
    return 1


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family)


class _Server(uvicorn.Server):
    """Lets answers finish when a signal ends it, for a while; a second signal ends them, too."""

    def __init__(self, config: uvicorn.Config, worker: Worker) -> None:
        super().__init__(config)
        self._worker = worker
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn, which dies of the signal in the end, leave the exit code to us."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or stop waiting for it."""
        if self.should_exit and self._loop is not None:
            self._loop.call_soon_threadsafe(self._worker.close)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the answers in progress; those that take too long end with an error event."""
        asyncio.get_running_loop().call_later(_SECONDS_TO_DRAIN, self._worker.close)
        await super().shutdown(sockets)


class _Service:
    def __init__(
        self,
        settings: Settings,
        model: ModelFiles,
        tokenizer: PreTrainedTokenizerBase,
        started: float,
    ) -> None:
        self._settings = settings
        self._started = started
        self._failure: EngineFailed | None = None
        metrics = Metrics(model.name)
        self._history = History(settings.history, settings.history_file, fingerprint(tokenizer))
        self._worker = Worker(what_to_load(settings, model), metrics.observe_step)
        app = create_app(
            engine=self._worker,
            tokenizer=tokenizer,
            model_names=list(filter(None, [settings.served_model_name, model.name])),
            metrics=metrics,
            history=self._history,
            policy=_policy(settings),
            wordings=Wordings(settings.wordings),
            api_keys=settings.accepted_keys(),
            caps=_caps(settings),
            limits=limits.Limits(n=settings.max_choices, body_bytes=settings.max_body_bytes),
            lifespan=self._lifespan,
        )
        config = uvicorn.Config(
            app,
            lifespan="on",
            loop="asyncio",  # not whatever else happens to be installed: it is what is tested
            http=BoundedProtocol,
            h11_max_incomplete_event_size=HEADER_BYTES,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SECONDS_TO_DRAIN + 1,  # for what no engine holds up
        )
        self._server = _Server(config, self._worker)

    def run(self, listener: socket.socket) -> int:
        self._server.run(sockets=[listener])
        return 0 if self._failure is None else _fail(str(self._failure))

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """The HTTP side answers at once (not ready yet) while the engine loads beside it."""
        self._history.load()
        starting = asyncio.create_task(self._start())
        try:
            yield
        finally:
            starting.cancel()
            await self._worker.stop()
            self._history.save()

    async def _start(self) -> None:
        try:
            info = await self._worker.start()
        except EngineFailed as error:
            self._failure = error
            self._server.should_exit = True
            return
        ready_seconds = time.monotonic() - self._started
        text = summary(info, self._settings, self._url, ready_seconds)
        Console().print(text, soft_wrap=True)

    @property
    def _url(self) -> str:
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._settings.port}"


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


def what_to_load(settings: Settings, model: ModelFiles) -> LoadModel:
    """The first frame of a worker that serves the model by these settings."""
    return LoadModel(
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
