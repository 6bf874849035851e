"""The engine as the HTTP layer sees it: where it runs and how it is reached is not known here."""

from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol

from decoding.report import Drafting, EngineInfo
from decoding.request import Output, Request


class Load(NamedTuple):
    """How busy the engine is."""

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0  # share of cache blocks held by live sequences, 0..1
    requests: int = 0  # that the server has taken on and not answered yet, but for one's own
    drafting_rests: bool = False  # it did not pay lately in batches of this size


class EngineDied(RuntimeError):
    """The worker is gone and what it was computing is lost."""


class EngineClient(Protocol):
    """What the server needs from an engine."""

    @property
    def info(self) -> EngineInfo | None:
        """The facts of the loaded engine; None until it is loaded."""

    @property
    def ready(self) -> bool:
        """Whether the engine is loaded, alive and its loop turned just now."""

    @property
    def is_draining(self) -> bool:
        """Whether it finishes what is in progress and takes nothing new."""

    @property
    def load(self) -> Load:
        """How busy the engine was after its last step."""

    @property
    def drafting(self) -> Drafting | None:
        """What the engine has learned about drafts; None until it says."""

    def generate(self, request: Request, *, is_whole: bool = False) -> AsyncGenerator[Output]:
        """Yield what every step adds to any choice, until all choices have a finish reason.

        With ``is_whole`` the client sees no part of the answer before all of it, so that it may be
        begun again. Closing the generator aborts the work.

        Raises (while iterating):
            EngineDied: the worker is gone.
        """
