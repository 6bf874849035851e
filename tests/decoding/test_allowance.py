"""Limits of a container count, in both versions of control groups."""

from pathlib import Path

import psutil
import pytest

from decoding import allowance

MIB = 2**20


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a gigabyte to spare."""
    memory = psutil.virtual_memory()._replace(available=1024 * MIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def write(directory: Path, **files: str | int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (directory / name.replace("__", ".")).write_text(f"{value}\n")


def groups(tmp_path: Path, *lines: str) -> tuple[Path, Path]:
    file = tmp_path / "groups"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file, tmp_path / "mounted"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", ["/", "/system.slice/stride.service"])
def test_a_limit_of_the_second_version_counts(tmp_path: Path, name: str) -> None:
    where = groups(tmp_path, f"0::{name}")
    directory = where[1] / name.lstrip("/")
    write(directory, memory__max=300 * MIB, memory__current=200 * MIB, cpu__max="250000 100000")
    write(directory, memory__stat=f"anon 5\ninactive_file {50 * MIB}\nactive_file 7")
    assert allowance.free_memory(*where) == 150 * MIB
    assert allowance.processors(*where) == 2


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", ["/", "/docker/0123"])
def test_a_limit_of_the_first_version_counts(tmp_path: Path, name: str) -> None:
    """Inside a container the name may be the outer one, and its directory not be there."""
    where = groups(tmp_path, f"4:memory:{name}", f"3:cpu,cpuacct:{name}", "0::/")
    memory, cpu = where[1] / "memory", where[1] / "cpu"
    write(memory, memory__limit_in_bytes=300 * MIB, memory__usage_in_bytes=100 * MIB)
    write(cpu, cpu__cfs_quota_us=150_000, cpu__cfs_period_us=100_000)
    assert allowance.free_memory(*where) == 200 * MIB
    assert allowance.processors(*where) == 1


@pytest.mark.usefixtures("machine")
def test_the_tightest_of_the_groups_around_counts(tmp_path: Path) -> None:
    where = groups(tmp_path, "0::/outer/inner")
    write(where[1] / "outer", memory__max=100 * MIB, memory__current=0, cpu__max="50000 100000")
    write(where[1] / "outer" / "inner", memory__max=200 * MIB, memory__current=0, cpu__max="max 1")
    assert allowance.free_memory(*where) == 100 * MIB
    assert allowance.processors(*where) == 1  # half of one is one, slowly


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("lines", [[], ["0::/"], ["4:memory:/", "1:cpu:/"]])
def test_without_limits_the_machine_is_what_there_is(tmp_path: Path, lines: list[str]) -> None:
    where = groups(tmp_path, *lines)
    write(where[1], memory__max="max", cpu__max="max 100000")
    write(where[1] / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=5)
    write(where[1] / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)
    assert allowance.free_memory(*where) == 1024 * MIB
    assert allowance.processors(*where) is None


def test_this_machine_can_be_asked() -> None:
    assert 0 < allowance.free_memory() <= psutil.virtual_memory().total
