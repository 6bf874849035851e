"""Showing how far a long preparation is: bars in a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

Unit = Literal["bytes", "tensors"]

SECONDS_BETWEEN_LINES = 10.0
SECONDS_WORTH_A_LINE = 2.0


class Advance(Protocol):
    """Says how much of a stage is done, and how much there is once that is known."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Report ``done`` units out of ``total``."""


class Progress(Protocol):
    """Where the preparation of a model reports to."""

    def note(self, text: str) -> None:
        """Tell the user something worth a line."""

    def stage(
        self, title: str, unit: Unit, total: int | None = None
    ) -> AbstractContextManager[Advance]:
        """Open a stage; the caller advances it and leaves it."""


class Silent:
    """Reports nothing."""

    def note(self, text: str) -> None:
        """Drop the text."""

    @contextmanager
    def stage(self, title: str, unit: Unit, total: int | None = None) -> Iterator[Advance]:
        """Open a stage nobody sees."""
        yield lambda done, total=None: None


class Bars:
    """One bar a stage, for a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def note(self, text: str) -> None:
        """Print the text on its own line."""
        self.console.print(text, style="dim", markup=False, highlight=False)

    @contextmanager
    def stage(self, title: str, unit: Unit, total: int | None = None) -> Iterator[Advance]:
        """Open a stage with a bar that pulses until the total is known."""
        description = TextColumn("{task.description:<24}", markup=False)
        columns = (description, BarColumn(28), Amount(unit), TimeElapsedColumn())
        with RichProgress(*columns, console=self.console) as bars:
            task = bars.add_task(title, total=total)

            def advance(done: int, total: int | None = None) -> None:
                bars.update(task, completed=done, total=total)

            yield advance
            length = bars.tasks[task].total or bars.tasks[task].completed or 1
            bars.update(task, completed=length, total=length)


class Amount(ProgressColumn):
    """ "12.3 of 92.9 MB", "40 of 272 tensors"."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Write the amount, with a total where there is one."""
        return Text(amount(int(task.completed), task.total, self.unit), style="progress.download")


class Lines:
    """A line when a stage opens, one every ten seconds, and one when a long stage ends."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def note(self, text: str) -> None:
        """Print the text, unwrapped."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, unit: Unit, total: int | None = None) -> Iterator[Advance]:
        """Open a stage by a line that names it."""
        self.note(f"{title} ({size(total)})" if unit == "bytes" and total else title)
        started = said = time.monotonic()

        def advance(done: int, total: int | None = total) -> None:
            nonlocal said
            if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                self.note(f"{title}: {amount(done, total, unit)}")

        yield advance
        seconds = time.monotonic() - started
        if seconds >= SECONDS_WORTH_A_LINE:
            self.note(f"{title}: done in {seconds:.0f} s")


def progress_on(console: Console) -> Progress:
    """Choose bars for a terminal and plain lines for a pipe or a log file."""
    return Bars(console) if console.is_terminal else Lines(console)


def amount(done: int, total: float | None, unit: Unit) -> str:
    """Write a part of a whole: "12.3 MB of 92.9 MB", "40 of 272 tensors"."""
    if unit == "bytes":
        return f"{size(done)} of {size(int(total))}" if total else size(done)
    return f"{done} of {int(total)} {unit}" if total else ""


def size(num_bytes: int) -> str:
    """Write a number of bytes in megabytes: "92.9 MB"."""
    return f"{num_bytes / 1e6:,.1f} MB"
