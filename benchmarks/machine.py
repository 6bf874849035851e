"""What a figure is worth nothing without: the machine, the versions and the commit."""

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic

import psutil

from benchmarks.processes import ROOT, threads

_MATRIX_UNITS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2", "bf16", "asimd")
_PACKAGES = ("torch", "transformers", "tokenizers", "stride")


def facts() -> dict[str, str]:
    """What was measured where, by name."""
    return {
        "CPU": f"{cpu_model()}, {os.cpu_count()} logical cores, {threads()} threads used",
        "CPU features": ", ".join(cpu_features()) or "unknown",
        "Memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Versions": f"Python {platform.python_version()}, {', '.join(versions())}",
        "Commit": commit(),
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


class OtherLoad:
    """How busy others kept the machine, from its creation on: what spoils every figure."""

    def __init__(self) -> None:
        self._start = monotonic(), used_by_all(), used_by_us()

    def share(self) -> float:
        """The share of all processors that went to processes which are not ours, 0..1."""
        started, by_all, by_us = self._start
        by_others = (used_by_all() - by_all) - (used_by_us() - by_us)
        return max(0.0, by_others / ((monotonic() - started) * (os.cpu_count() or 1)))


def used_by_all() -> float:
    """Processor seconds since the machine started, other virtual machines' theft included."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def used_by_us() -> float:
    """Processor seconds of this process and everything it started that still lives."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def cpu_model() -> str:
    """The name the processor gives itself, with its numbers where the name says little."""
    fields = cpu_fields()
    name = fields.get("model name", platform.processor() or "unknown")
    numbers = [fields[key] for key in ("cpu family", "model", "stepping") if key in fields]
    return f"{name} (family/model/stepping {'/'.join(numbers)})" if numbers else name


def cpu_features() -> list[str]:
    """The instruction sets that matter here."""
    fields = cpu_fields()
    present = (fields.get("flags") or fields.get("Features", "")).split()
    return [unit for unit in _MATRIX_UNITS if unit in present]


def cpu_fields() -> dict[str, str]:
    """What Linux says about the first processor; empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def versions() -> Iterable[str]:
    """The packages that matter here."""
    for package in _PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:  # Stride itself, run from a checkout
            continue


def commit() -> str:
    """The commit of the checkout, and whether anything was changed since.

    Not in docs/, into which benchmarks write what they have measured.
    """
    short = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--", ".", ":!docs")
    return f"{short} with uncommitted changes" if changed else short


def git(*arguments: str) -> str:
    """What git answers, or "unknown" outside a checkout."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
