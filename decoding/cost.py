"""What a forward costs: measured at start-up, corrected by every step.

A forward's time is taken to be a curve over its rows, plus a price for every cached key that is
read and a price for every pair of a row and a key it sees; all of it at the pace that the machine
has now. Drafting is decided by what more rows cost than fewer: where a machine is slower for a
while, all of them are, and the decision stays. How well it predicts is kept, too.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decoding.report import Cost
from decoding.runner import BLOCK_SIZE, Runner
from decoding.segment import Segment

# Matrix units take sixteen rows at a time: one more costs as much as sixteen more.
ROWS = (1, 2, 4, 8, 16, 17, 32, 33, 48, 64, 128, 512)
_CHUNK = 512  # a forward of so many rows is a piece of a prompt: one row's logits are wanted
_ENOUGH_SECONDS = 1.0  # of measuring
_LONG_SECONDS = 10.0  # where each forward once takes so long, once is enough
_STEPS_TO_PACE = 16  # after which two thirds of a change are followed
_STEPS_TO_LEARN = 64  # of a size, the same for what is wrong with it alone
_REMEMBERED = 256


class Work(NamedTuple):
    """What a forward has to do, as far as it decides the time."""

    rows: int
    keys: int  # cached keys and values to read, each sequence its own
    pairs: int  # of a row and a key it sees

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> "Work":
        """That of a forward of these segments."""
        counts = [len(segment.tokens) for segment in segments]
        sequences = list(zip(segments, counts, strict=True))
        return cls(
            rows=sum(counts),
            keys=sum(segment.start + count for segment, count in sequences),
            pairs=sum(count * (segment.start + (count + 1) // 2) for segment, count in sequences),
        )


class CostModel:
    """Predicts the seconds a forward takes.

    ``by_rows`` are the seconds of a forward with 1, 2, 4 … rows and no cached keys.
    """

    def __init__(self, by_rows: Sequence[float], per_key: float, per_pair: float) -> None:
        self._by_rows = list(by_rows)
        self._per_key = per_key
        self._per_pair = per_pair
        self._pace = 1.0
        self._errors: deque[float] = deque(maxlen=_REMEMBERED)

    def seconds(self, work: Work) -> float:
        """The predicted time of a forward: without arrays, as it is asked for at every node."""
        after, share = _place(work.rows)
        of_rows = (1 - share) * self._by_rows[after - 1] + share * self._by_rows[after]
        return self._pace * (of_rows + self._per_key * work.keys + self._per_pair * work.pairs)

    def observe(self, work: Work, seconds: float) -> None:
        """Learn from a forward that took ``seconds``: the pace fast, the curve slowly."""
        predicted = self.seconds(work)
        self._errors.append(abs(predicted / seconds - 1))
        # A step that was interrupted says nothing about the next one: believe at most a doubling.
        error = min(seconds, 2 * predicted) - predicted
        change = error / self._pace / _STEPS_TO_LEARN
        self._pace *= 1 + error / predicted / _STEPS_TO_PACE
        after, share = _place(work.rows)
        for place, part in ((after - 1, 1 - share), (after, share)):
            self._by_rows[place] = max(0.0, self._by_rows[place] + part * change)

    def report(self) -> Cost:
        """The curve as it stands, at the pace of now."""
        return Cost(
            by_rows={r: self._pace * s for r, s in zip(ROWS, self._by_rows, strict=True)},
            per_key=self._pace * self._per_key,
            per_pair=self._pace * self._per_pair,
            median_error=median(self._errors) if self._errors else None,
        )


def _place(rows: int) -> tuple[int, float]:
    """The measured row count at or after this one, and how far it is there from the one before."""
    after = min(max(bisect_left(ROWS, rows), 1), len(ROWS) - 1)
    low, high = ROWS[after - 1], ROWS[after]
    return after, (rows - low) / (high - low)


def _shares(rows: int) -> NDArray[np.float64]:
    """The same as what each measured row count contributes, ``[measured]``."""
    after, share = _place(rows)
    shares = np.zeros(len(ROWS))
    shares[after - 1], shares[after] = 1 - share, share
    return shares


def measure(runner: Runner) -> CostModel:
    """Time forwards of random tokens, in about a second for a small model.

    Writes over the beginning of the cache.
    """
    room = min(runner.context_length, (runner.num_blocks - 1) * BLOCK_SIZE)
    context = max(0, min(512, room - max(ROWS)))
    trials = [(1, rows, 0) for rows in ROWS if rows <= room]
    trials += [(1, 1, context), (1, 16, context)] if context else []
    batches = min(16, room // (context // 2 + 1)) if context else 0
    trials += [(batches, 1, context // 2)] if batches > 1 else []
    segments = [_segments(*trial) for trial in trials]
    return _fitted([Work.of(each) for each in segments], _shortest(runner, segments))


def _segments(sequences: int, rows: int, context: int) -> list[Segment]:
    """Chains of ``rows`` tokens behind ``context`` cached ones, each in slots of its own."""
    length = context + rows
    logits_from = rows - 1 if rows >= _CHUNK else 0
    starts = BLOCK_SIZE + np.arange(sequences) * length
    return [
        Segment([0] * rows, range(-1, rows - 1), context, start + np.arange(length), logits_from)
        for start in starts
    ]


def _shortest(runner: Runner, forwards: Sequence[Sequence[Segment]]) -> list[float]:
    """The shortest time of each: what it takes when nothing interrupts it.

    They take turns, so that no interruption hits all tries of one.
    """
    rounds = [[_timed(runner, each) for each in forwards]]
    spent = sum(rounds[0])
    while spent < _LONG_SECONDS and (len(rounds) == 1 or spent < _ENOUGH_SECONDS):
        rounds.append([_timed(runner, each) for each in forwards])
        spent += sum(rounds[-1])
    return [min(times) for times in zip(*rounds, strict=True)]


def _timed(runner: Runner, segments: Sequence[Segment]) -> float:
    started = perf_counter()
    runner.forward(segments)
    return perf_counter() - started


def _fitted(works: Sequence[Work], times: Sequence[float]) -> CostModel:
    """Least squares of relative errors, with no negative price."""
    design = np.array([[*_shares(work.rows), work.keys, work.pairs] for work in works])
    scaled = design / np.array(times)[:, None]
    solution = np.zeros(design.shape[1])
    for priced in ([-2, -1], [-2], [-1], []):
        used = [*range(len(ROWS)), *(design.shape[1] + column for column in priced)]
        solution[:] = 0
        solution[used] = np.linalg.lstsq(scaled[:, used], np.ones(len(works)), rcond=None)[0]
        if (solution >= 0).all():
            break
    *by_rows, per_key, per_pair = np.maximum(solution, 0.0).tolist()
    return CostModel(_continued(by_rows, max(work.rows for work in works)), per_key, per_pair)


def _continued(by_rows: list[float], measured: int) -> list[float]:
    """Past the largest forward that there was room for, a row costs what it did there."""
    last = ROWS.index(measured)
    price = by_rows[last] / measured
    return [*by_rows[: last + 1], *(price * rows for rows in ROWS[last + 1 :])]
