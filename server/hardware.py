"""How workers share a machine: threads on a CPU, a device each on CUDA."""

import os
from collections.abc import Mapping

import psutil

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def threads_of_each(workers: int) -> int:
    """The threads of each of several workers; 0 for a single one, which finds out by itself."""
    if workers == 1:
        return 0
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = min(psutil.cpu_count(logical=False) or 1, usable or 1)
    return max(1, cores // workers)


def device_of(number: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The variable that shows a worker the GPU of its number alone; of no effect without GPUs.

    Where the environment names some, they are given out in that order, and again from the first.
    """
    if _VISIBLE not in environment:
        return {_VISIBLE: str(number)}
    named = environment[_VISIBLE].split(",")
    return {_VISIBLE: named[number % len(named)].strip()}
