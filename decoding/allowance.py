"""What a container or a service manager leaves of the machine: limits that control groups set.

The totals that the system reports are the machine's, and a process that takes more than its group
may have is killed or held up.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import psutil

_GROUPS = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")


def free_memory(groups: Path = _GROUPS, mounted: Path = _MOUNTED) -> int:
    """Bytes this process can still take."""
    free = psutil.virtual_memory().available
    for group in _controlled("memory", groups, mounted):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        if limit is not None:
            free = min(free, max(0, limit - _needed(group)))
    return free


def processors(groups: Path = _GROUPS, mounted: Path = _MOUNTED) -> int | None:
    """Whole processors' worth of time this process may have; None where nothing limits it."""
    shares = [
        share
        for group in _controlled("cpu", groups, mounted)
        if (share := _share(group)) is not None
    ]
    return max(1, math.floor(min(shares))) if shares else None


def _controlled(controller: str, groups: Path, mounted: Path) -> Iterator[Path]:
    """The directories of this process's group and of those around it, in either version.

    Inside a container the group's name may be the one it has outside: then only the outermost
    directory exists here, and is the container's own.
    """
    for line in _text(groups).splitlines():
        _, names, name = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = mounted / controller if names else mounted
        path = root / name.lstrip("/")
        yield from (place for place in (path, *path.parents) if place.is_relative_to(root))


def _needed(group: Path) -> int:
    """Bytes in use that the system cannot drop when memory is short."""
    used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
    for line in _text(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return used - int(value)
    return used


def _share(group: Path) -> float | None:
    """Processors that the group's quota amounts to."""
    quota, _, period = _text(group / "cpu.max").strip().partition(" ")
    quota = quota or _text(group / "cpu.cfs_quota_us").strip()
    period = period or _text(group / "cpu.cfs_period_us").strip()
    is_limited = quota.isdigit() and period.isdigit()  # not "max", not -1
    return int(quota) / int(period) if is_limited else None


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
