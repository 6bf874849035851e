"""What an operator is told of a worker's end."""

import signal
from pathlib import Path

import pytest

from server.worker_endings import Ending, ending, kills_for_memory


@pytest.mark.parametrize(
    ("status", "out_of_memory", "expected"),
    [
        (0, False, Ending("exit", "exit status 0")),
        (1, True, Ending("exit", "exit status 1")),
        (-signal.SIGSEGV, False, Ending("signal", "killed by SIGSEGV")),
        (-signal.SIGSEGV, True, Ending("signal", "killed by SIGSEGV")),
        (-signal.SIGKILL, False, Ending("signal", "killed by SIGKILL")),
        (-signal.SIGKILL, True, Ending("oom", "killed for want of memory")),
        (137, True, Ending("oom", "killed for want of memory")),
        (-40, False, Ending("signal", "killed by signal 40")),
    ],
)
def test_a_status_is_told_in_words(status: int, out_of_memory: bool, expected: Ending) -> None:
    assert ending(status, out_of_memory=out_of_memory) == expected


def test_what_made_us_kill_it_counts_more_than_how_it_ended() -> None:
    fault = Ending("hang", "killed because it hung")
    assert ending(-signal.SIGKILL, fault=fault, out_of_memory=True) == fault


def test_the_kernels_kills_are_read_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = tmp_path / "vmstat"
    monkeypatch.setattr("server.worker_endings._KERNEL_COUNTERS", counters)
    assert kills_for_memory() == 0
    counters.write_text("pgfault 7\noom_kill 3\noom_kill_other 9\n")
    assert kills_for_memory() == 3
