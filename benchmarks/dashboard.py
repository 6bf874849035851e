"""``python -m benchmarks.dashboard``: a picture of the Grafana dashboard, with real data.

A real server answers requests of all kinds while a real Prometheus scrapes it; then every panel's
own query is asked, and the answers are drawn. ``--write`` keeps the picture.
"""

import asyncio
import time
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.contestants import STRIDE, StrideServer
from benchmarks.dashboard_picture import picture
from benchmarks.mixed_load import MixedLoad
from benchmarks.panels import Window, lines, panels
from benchmarks.processes import ROOT
from benchmarks.prometheus import watching
from decoding.models import DEFAULT_MODEL, progress_on, resolve
from decoding.options import default_cache_dir

PICTURE = ROOT / "docs" / "pictures" / "dashboard.svg"
RATE_SECONDS = 15

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Draw the Grafana dashboard with real data.")
def main(
    seconds: Annotated[int, typer.Option(help="How long to ask.")] = 150,
    clients: Annotated[int, typer.Option(help="How many ask, one joining after another.")] = 8,
    write: Annotated[bool, typer.Option("--write", help="Put the picture into docs/.")] = False,
) -> None:
    """Serve, ask, watch, draw."""
    drawn = drawing(seconds, clients)
    if write:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(drawn, encoding="utf-8")
    else:
        print(drawn)


def drawing(seconds: int, clients: int) -> str:
    """The picture of a run."""
    progress = progress_on(Console(stderr=True))
    model = resolve(DEFAULT_MODEL, cache=default_cache_dir(), progress=progress)
    # What comes again must not be answered from memory: then all would be of one kind.
    server = StrideServer(STRIDE, model.directory, "--history", "0")
    server.start()
    server.thaw()
    try:
        with watching(server.url.removeprefix("http://")) as prometheus:
            time.sleep(3)  # two scrapes before the first request
            begin = time.time()
            load = MixedLoad(server.url, model.directory.name, seconds)
            asyncio.run(load.run(clients, joining=seconds / clients / 1.5))
            window = Window(begin + RATE_SECONDS, time.time(), RATE_SECONDS)
            shown = [(panel, lines(prometheus, panel, window)) for panel in panels()]
    finally:
        server.stop()
    title = f"{DEFAULT_MODEL}, up to {clients} clients, all kinds of requests"
    return picture(title, shown, window)


if __name__ == "__main__":
    app()
