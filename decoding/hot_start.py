"""What a model finds likely behind every token of its vocabulary, before anybody asks.

Token recycling begins with an empty table, and after dozens of answers one token in six still is
not in it. So the model fills it: each token behind a line break and nothing else, computed once and
kept in the cache directory. (Luo et al., arXiv 2408.08696, start from a table that the last run
has left.)
"""

import logging
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from decoding.recycling import CANDIDATES, UNKNOWN
from decoding.runner import BLOCK_SIZE, Runner
from decoding.segment import Segment

logger = logging.getLogger(__name__)

_ROWS = 256  # of one forward: their logits take 50 MB for a vocabulary of 49,152
_MOST_SECONDS = 60.0
_WORTH_KEEPING = 1.0  # seconds that it took
_SUFFIXES = (".safetensors", ".json")

Table = NDArray[np.int32]


def hot_start(runner: Runner, context: Sequence[int], directory: Path, cache_dir: Path) -> Table:
    """The likeliest successors of every token, ``[vocabulary, CANDIDATES]``.

    Read from ``cache_dir`` if they were found before for the model in ``directory``, else computed
    behind ``context`` and kept there. Writes over the beginning of the cache.
    """
    path = cache_dir / "successors" / f"{_digest(runner, context, directory)}.npy"
    table = _kept(path, (runner.vocabulary_size, CANDIDATES))
    if table is None:
        started = perf_counter()
        table = successors(runner, context)
        if perf_counter() - started > _WORTH_KEEPING:
            _keep(path, table)
    return table


def successors(runner: Runner, context: Sequence[int], *, seconds: float = _MOST_SECONDS) -> Table:
    """Compute them, frequent tokens (the first ones) first, as far as time and cache allow."""
    table = np.full((runner.vocabulary_size, CANDIDATES), UNKNOWN, np.int32)
    room = min(runner.context_length, (runner.num_blocks - 1) * BLOCK_SIZE) - len(context)
    rows = min(_ROWS, room)
    if rows < 1:
        return table
    logger.info("finding out what follows each token, once for this model")
    started = perf_counter()
    for first in range(0, len(table), rows):
        if perf_counter() - started > seconds:
            break
        tokens = range(first, min(first + rows, len(table)))
        logits = runner.forward([_side_by_side(context, tokens)])
        table[tokens] = runner.computation.likeliest(logits, CANDIDATES)
    return table


def _side_by_side(context: Sequence[int], tokens: Sequence[int]) -> Segment:
    """Each token behind the context, none of them seeing another."""
    last = len(context) - 1
    return Segment(
        tokens=[*context, *tokens],
        parents=[*range(-1, last), *[last] * len(tokens)],
        start=0,
        slots=BLOCK_SIZE + np.arange(len(context) + len(tokens)),
        logits_from=len(context),
    )


def _digest(runner: Runner, context: Sequence[int], directory: Path) -> str:
    """Of the model's files, by name, size and time, and of how it is computed."""
    digest = sha256(repr((runner.computation.format, CANDIDATES, list(context))).encode())
    for file in sorted(directory.iterdir()):
        if file.suffix in _SUFFIXES:
            state = file.stat()
            digest.update(repr((file.name, state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def _kept(path: Path, shape: tuple[int, int]) -> Table | None:
    """What was kept, if it is there and whole."""
    try:
        table: Table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = table.shape == shape and table.dtype == np.int32
    return table if fits and table.min() >= UNKNOWN and table.max() < shape[0] else None


def _keep(path: Path, table: Table) -> None:
    """Write it down for the next time; where that is not possible it is computed again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.npy")
        np.save(beside, table)
        beside.replace(path)
    except OSError as error:
        logger.warning("cannot keep what follows each token: %s", error)
