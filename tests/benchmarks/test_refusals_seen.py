"""The client that asks for too much counts what was refused, and nothing else."""

from itertools import cycle

from test_keeping import WHOLE, serving

from benchmarks.refusals import refused

TAKEN = WHOLE.replace(b"429", b"200")
LOST = WHOLE.replace(b"429", b"503")


async def test_only_refusals_are_counted() -> None:
    answers = cycle([WHOLE, TAKEN, LOST])
    async with serving(*(next(answers) for _ in range(30))) as connection:
        found = await refused(connection, "tiny", seconds=0.45)
    assert len(found) == 2
    assert all(0 < seconds < 0.4 for seconds in found)
