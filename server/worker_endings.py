"""Why a worker ended, as operators are told."""

import signal
from pathlib import Path
from typing import Literal, NamedTuple

EndReason = Literal["exit", "signal", "hang", "oom", "corrupt"]

_KERNEL_COUNTERS = Path("/proc/vmstat")
_STATUS_OF_A_KILL = 128 + signal.SIGKILL  # as shells and containers report one


class Ending(NamedTuple):
    """Why a worker ended, in a word for the metrics and in words for the log."""

    reason: EndReason
    text: str


def ending(status: int, *, fault: Ending | None = None, out_of_memory: bool = False) -> Ending:
    """What an exit status means; ``fault`` is what made us end it, if we did.

    ``out_of_memory`` says that the kernel killed something for its memory while the worker ran.
    """
    if fault is not None:
        return fault
    if status in (-signal.SIGKILL, _STATUS_OF_A_KILL) and out_of_memory:
        return Ending("oom", "killed for want of memory")
    if status < 0:
        return Ending("signal", f"killed by {_name(-status)}")
    return Ending("exit", f"exit status {status}")


def kills_for_memory() -> int:
    """Processes that the kernel has killed for want of memory so far; 0 where it does not say."""
    try:
        lines = _KERNEL_COUNTERS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
