"""A real Prometheus beside a real server: found or fetched, started on loopback, asked."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx

from benchmarks.contestants import free_port
from benchmarks.processes import ChildProcess
from decoding.options import default_cache_dir

_SECONDS_TO_START = 60.0
_CONFIGURATION = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: stride
    static_configs: [{{targets: ["{target}"]}}]
"""


class PrometheusMissing(RuntimeError):
    """There is none on this machine and it cannot be fetched."""


class Tools(NamedTuple):
    """The two programs."""

    prometheus: str
    promtool: str


class Series(NamedTuple):
    """An answer of Prometheus: the labels it is for, and its values by time."""

    labels: Mapping[str, str]
    values: Mapping[float, float]


def tools() -> Tools:
    """Those of this machine, else those of Debian's package: unpacked, nothing is installed.

    Raises:
        PrometheusMissing: it is not there and there is no package.
    """
    found = Tools._make(shutil.which(name) or "" for name in Tools._fields)
    if all(found):
        return found
    kept = default_cache_dir() / "prometheus"
    unpacked = Tools._make(str(kept / "usr" / "bin" / name) for name in Tools._fields)
    if not all(map(os.access, unpacked, (os.X_OK, os.X_OK))):
        _fetch(kept)
    return unpacked


def _fetch(directory: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise PrometheusMissing("Prometheus is not installed, and there is no apt to fetch it with")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=directory.parent) as place:
        if not _downloaded(place):
            _run("apt-get", "--quiet", "update")  # a fresh image knows of no packages yet
            if not _downloaded(place):
                raise PrometheusMissing("apt-get cannot download Debian's package of Prometheus")
        (package,) = Path(place).glob("*.deb")
        _run("dpkg", "--extract", str(package), f"{place}/unpacked")
        shutil.rmtree(directory, ignore_errors=True)
        os.rename(f"{place}/unpacked", directory)


def _downloaded(place: str) -> bool:
    return _run("apt-get", "--quiet", "download", "prometheus", cwd=place)


def _run(*command: str, cwd: str | None = None) -> bool:
    return subprocess.run(command, cwd=cwd, capture_output=True).returncode == 0


class Prometheus:
    """A Prometheus that answers at ``url``."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)

    def now(self, query: str) -> list[Series]:
        """The answer at this moment."""
        answer = self._ask("query", query=query)
        if answer["resultType"] == "scalar":
            return [Series({}, _values([answer["result"]]))]
        return [Series(each["metric"], _values([each["value"]])) for each in answer["result"]]

    def between(self, query: str, begin: float, end: float, step: float = 1) -> list[Series]:
        """The answers from one time to another."""
        answer = self._ask("query_range", query=query, start=begin, end=end, step=step)
        return [Series(each["metric"], _values(each["values"])) for each in answer["result"]]

    def is_ready(self) -> bool:
        """Whether it would answer."""
        try:
            return self._http.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Ask no more."""
        self._http.close()

    def _ask(self, kind: str, **parameters: Any) -> Any:
        answer = self._http.get(f"/api/v1/{kind}", params=parameters).json()
        if answer["status"] != "success":
            raise ValueError(f"{parameters['query']}: {answer['error']}")
        return answer["data"]


def _values(pairs: list[tuple[float, str]]) -> dict[float, float]:
    return {time: float(value) for time, value in pairs}


@contextmanager
def watching(server: str) -> Iterator[Prometheus]:
    """Start a Prometheus that scrapes this server (``host:port``) every second."""
    with TemporaryDirectory() as place:
        configuration = Path(place) / "prometheus.yml"
        configuration.write_text(_CONFIGURATION.format(target=server), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        process = ChildProcess(
            [
                tools().prometheus,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={place}/data",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ]
        )
        prometheus = Prometheus(f"http://{address}")
        try:
            _wait_for(prometheus, process)
            yield prometheus
        finally:
            prometheus.close()
            process.stop()


def _wait_for(prometheus: Prometheus, process: ChildProcess) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while not prometheus.is_ready():
        if process.has_ended or time.monotonic() > deadline:
            raise RuntimeError(f"Prometheus did not start: {process.last_words()}")
        time.sleep(0.05)
