"""``stride info``: load a model as the server would, say what was found, and leave."""

import asyncio
import sys

from rich.console import Console
from rich.table import Table

from decoding.models import ModelFiles
from decoding.report import Cost, EngineInfo
from server.serve import what_to_load
from server.settings import Settings
from server.summary import engine_facts
from server.worker import EngineFailed, Worker

_CONTEXTS = (0, 256, 1024)


def show(settings: Settings, model: ModelFiles) -> int:
    """Print the facts of the engine and what its forwards cost; returns the exit code."""
    try:
        info = asyncio.run(_loaded(settings, model))
    except EngineFailed as error:
        sys.stderr.write(f"stride: {error}\n")
        return 1
    console = Console(highlight=False)
    for label, value in engine_facts(info):
        console.print(f"  [dim]{label:<12}[/dim]", end="")
        console.print(value, markup=False, soft_wrap=True)
    if info.cost is not None:
        console.print("\n", cost_table(info.cost), sep="")
    return 0


async def _loaded(settings: Settings, model: ModelFiles) -> EngineInfo:
    worker = Worker(what_to_load(settings, model))
    try:
        return await worker.start()
    finally:
        await worker.stop()


def cost_table(cost: Cost) -> Table:
    """A forward of so many tokens behind contexts of some lengths, in milliseconds."""
    table = Table(title="A forward of one sequence, in ms", title_justify="left")
    table.add_column("tokens", justify="right")
    for context in _CONTEXTS:
        table.add_column(f"{context:,} cached", justify="right")
    for rows, seconds in cost.by_rows.items():
        attention = [cost.per_key * c + cost.per_pair * c * rows for c in _CONTEXTS]
        table.add_row(f"{rows:,}", *(f"{1e3 * (seconds + each):.2f}" for each in attention))
    return table
