"""``python -m benchmarks.steps``: where a step's time goes, and what bounds it.

The same forwards by transformers' modelling code in bfloat16 (before) and by our kernels in int8
(after), alternating. ``--write`` writes ``docs/benchmarks/steps.md`` and its picture.
"""

import os
import random
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from benchmarks import machine
from benchmarks.bars import stacked_bars
from benchmarks.processes import ROOT
from benchmarks.report import table
from decoding.cost import measure
from decoding.eager.computation import EagerComputation
from decoding.engine import Engine
from decoding.load import load_model
from decoding.models import DEFAULT_MODEL, progress_on, resolve
from decoding.native.computation import NativeComputation
from decoding.native.library import PHASES, library
from decoding.options import default_cache_dir
from decoding.request import Request, Sampling, Stopping
from decoding.runner import BLOCK_SIZE, Runner
from decoding.segment import Segment
from server.worker import ENVIRONMENT

PAGE = ROOT / "docs" / "benchmarks" / "steps.md"
PICTURE = ROOT / "docs" / "benchmarks" / "steps.svg"

CONTEXT = 256
BATCHES = (1, 16)
CHAINS = (1, 2, 4, 8, 16, 32, 64)
MOST = {8: 1.3, 16: 1.6}  # times a forward of one token
ROUNDS, RUNS = 7, 8
PRODUCTS, ATTENTION, SMALL, PYTHON = (
    "matrix products",
    "attention and its cache",
    "norms, small operators",
    "Python, dispatch",
)
_ATTENTION_OPERATORS = ("scaled_dot_product", "flash_attention", "index_select", "index_copy")
_ATTENTION_PHASES = ("cache", "attention")

Parts = dict[str, float]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="Measure where a step's time goes, and what bounds it.")
def main(
    write: Annotated[bool, typer.Option("--write", help="Put the results into docs/.")] = False,
) -> None:
    """Measure, print, and write if asked to."""
    if not all(name in os.environ for name in ENVIRONMENT):
        os.execve(sys.executable, [*sys.orig_argv], {**os.environ, **ENVIRONMENT})
    directory = resolve(
        DEFAULT_MODEL, cache=default_cache_dir(), progress=progress_on(Console(stderr=True))
    ).directory
    text, picture = report(directory)
    print(text)
    if write:
        PAGE.write_text(text, encoding="utf-8")
        PICTURE.write_text(picture, encoding="utf-8")


def report(directory: Path) -> tuple[str, str]:
    """The page and its picture."""
    cpu = torch.device("cpu")
    facts = machine.facts()
    before = Runner(EagerComputation(load_model(directory, torch.bfloat16, cpu)), 1000)
    native = NativeComputation(load_model(directory, torch.bfloat16, cpu), "int8", library())
    after = Runner(native, 1000)
    bars: dict[str, Parts] = {}
    for batch in BATCHES:
        name = f"{batch} sequence{'s' if batch > 1 else ''}"
        bars[f"{name}, before"] = eager_parts(before, decoding(batch))
        bars[f"{name}, after"] = native_parts(after, native, decoding(batch))
    sections = [
        "# A step, taken apart",
        f"Measured with `{shlex.join(['python', '-m', 'benchmarks.steps', *sys.argv[1:]])}`, all of"
        " it; the text too is written by the command. Before: transformers' modelling code with"
        " our attention and linear layers, bfloat16. After: our kernels, int8. SmolLM2-135M,"
        f" {CONTEXT} cached tokens a sequence, one new token each.",
        table(["", ""], [[name, value] for name, value in facts.items()]),
        "## Where the time goes\n\n![The parts of a step, before and after](steps.svg)",
        parts_table(bars),
        "## What bounds it",
        bounds(after, native),
        "## What more tokens cost",
        chains(before, after),
        "## How well the cost model predicts",
        prediction(after),
    ]
    return "\n\n".join(sections) + "\n", stacked_bars(bars, "ms")


def decoding(batch: int) -> list[Segment]:
    """Sequences that decode a token each."""
    length = -(-(CONTEXT + 1) // BLOCK_SIZE) * BLOCK_SIZE
    starts = [BLOCK_SIZE + index * length for index in range(batch)]
    return [Segment([5], [-1], CONTEXT, s + np.arange(CONTEXT + 1), 0) for s in starts]


def chain(tokens: int) -> list[Segment]:
    """One sequence that verifies ``tokens - 1`` drafted tokens in a chain."""
    slots = BLOCK_SIZE + np.arange(CONTEXT + tokens)
    return [Segment([5] * tokens, range(-1, tokens - 1), CONTEXT, slots, 0)]


def milliseconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """The median time of the work."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1e3 * median(times)


def eager_parts(runner: Runner, segments: Sequence[Segment]) -> Parts:
    """A forward by transformers: operators' own time by kind, the rest is Python."""
    runner.forward(segments)
    whole = milliseconds(lambda: runner.forward(segments), ROUNDS * RUNS)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(RUNS):
            runner.forward(segments)
    parts = dict.fromkeys((PRODUCTS, ATTENTION, SMALL), 0.0)
    for event in profiled.key_averages():
        parts[_kind(event.key)] += event.self_cpu_time_total / 1e3 / RUNS
    return {**parts, PYTHON: max(0.0, whole - sum(parts.values()))}


def _kind(operator: str) -> str:
    if "linear" in operator:
        return PRODUCTS
    return ATTENTION if any(name in operator for name in _ATTENTION_OPERATORS) else SMALL


def native_parts(runner: Runner, native: NativeComputation, segments: Sequence[Segment]) -> Parts:
    """A forward by the kernels, by their own clock; what is left is Python."""
    seconds, whole = phases(runner, native, segments)
    parts = dict.fromkeys((PRODUCTS, ATTENTION, SMALL), 0.0)
    for name, value in seconds.items():
        is_small = name == PHASES[0]
        kind = ATTENTION if name in _ATTENTION_PHASES else SMALL if is_small else PRODUCTS
        parts[kind] += value
    return {**parts, PYTHON: max(0.0, whole - sum(parts.values()))}


def phases(
    runner: Runner, native: NativeComputation, segments: Sequence[Segment]
) -> tuple[Parts, float]:
    """Milliseconds of each phase of a forward, and of the whole; means, so that they add up."""
    runs = ROUNDS * RUNS
    runner.forward(segments)
    before = native.decoder.seconds()
    started = time.perf_counter()
    for _ in range(runs):
        runner.forward(segments)
    whole = 1e3 * (time.perf_counter() - started) / runs
    after = native.decoder.seconds()
    return {name: 1e3 * (after[name] - before[name]) / runs for name in after}, whole


def parts_table(bars: Mapping[str, Parts]) -> str:
    """The picture's figures."""
    names = list(next(iter(bars.values())))
    rows = [
        [title, *(f"{parts[name]:.2f}" for name in names), f"**{sum(parts.values()):.2f}**"]
        for title, parts in bars.items()
    ]
    return table(["ms", *names, "all"], rows)


def bounds(runner: Runner, native: NativeComputation) -> str:
    """Bytes over the machine's bandwidth and operations over its rate, beside the measured time."""
    bandwidth, rate = read_bandwidth(), product_rate()
    rows = []
    for batch in BATCHES:
        seconds, _ = phases(runner, native, decoding(batch))
        for name, (byte_count, operations) in demands(native, batch).items():
            by_bytes, by_operations = 1e3 * byte_count / bandwidth, 1e3 * operations / rate
            rows.append(
                [
                    f"{batch} × {name}",
                    f"{byte_count / 1e6:.1f}",
                    f"{by_bytes:.2f}",
                    f"{operations / 1e9:.2f}",
                    f"{by_operations:.2f}",
                    f"{seconds[name]:.2f}",
                ]
            )
    header = ["", "MB", "ms at bandwidth", "G operations", "ms at rate", "measured ms"]
    return (
        f"Read bandwidth {bandwidth / 1e9:.1f} GB/s (the best sum of 512 MiB of integers), int8"
        f" products {rate / 1e12:.2f} T operations/s (the best `torch._int_mm` of 2,048³), both on"
        f" {torch.get_num_threads()} threads. The shared cache behind the cores may hold a part of"
        " what a step reads, and answers faster than memory.\n\n" + table(header, rows)
    )


def demands(native: NativeComputation, batch: int) -> dict[str, tuple[float, float]]:
    """Bytes to read and operations to do in each phase that reads weights or cached keys."""
    layers, kv_heads, groups, size = native.geometry[:4]
    shape = native.decoder.shape
    heads = kv_heads * groups * size
    weights = {
        "qkv": layers * shape.hidden * (heads + 2 * kv_heads * size),
        "output": layers * heads * shape.hidden,
        "gate, up": layers * shape.hidden * 2 * shape.intermediate,
        "down": layers * shape.intermediate * shape.hidden,
        "head": shape.hidden * shape.vocabulary,
    }
    keys = batch * layers * 2 * kv_heads * size * (CONTEXT + 1)
    cached = {"attention": (float(keys * native.dtype.itemsize), 2.0 * keys * groups)}
    return {name: (float(count), 2.0 * count * batch) for name, count in weights.items()} | cached


def read_bandwidth() -> float:
    """Bytes a second, read by all threads."""
    data = torch.ones(512 * 2**20 // 8, dtype=torch.int64)
    best = min(milliseconds(data.sum, 1) for _ in range(10))
    return 1e3 * data.nbytes / best


def product_rate() -> float:
    """Operations a second of large int8 products."""
    matrix = torch.randint(-100, 100, (2048, 2048), dtype=torch.int8)
    best = min(milliseconds(lambda: torch._int_mm(matrix, matrix), 1) for _ in range(10))
    return float(1e3 * 2 * 2048**3 / best)


def chains(before: Runner, after: Runner) -> str:
    """What forwards of a sequence's next tokens cost, over a forward of one."""
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for tokens in CHAINS:
            for name, runner in (("before", before), ("after", after)):
                spent = milliseconds(lambda r=runner, t=tokens: r.forward(chain(t)))  # type: ignore[misc]
                times.setdefault((name, tokens), []).append(spent)
    rows = []
    for tokens in CHAINS:
        row = [str(tokens)]
        for name in ("before", "after"):
            pairs = zip(times[name, tokens], times[name, 1], strict=True)
            ratio = median(many / one for many, one in pairs)
            row += [f"{median(times[name, tokens]):.2f}", f"{ratio:.2f}×"]
        rows.append([*row, _verdict(tokens, ratio)])
    header = ["tokens", "before, ms", "÷ one", "after, ms", "÷ one", "target (after)"]
    return table(header, rows)


def _verdict(tokens: int, ratio: float) -> str:
    if tokens not in MOST:
        return "–"
    return f"≤ {MOST[tokens]}×: {'met' if ratio <= MOST[tokens] else '**missed**'}"


def prediction(runner: Runner) -> str:
    """Serve a changing mix of prompts and compare every forward with what was expected of it."""
    engine = Engine(runner, cost=measure(runner))
    static = measure(runner)
    assert engine.cost is not None
    learned, fixed = [], []
    observe = engine.cost.observe

    def compare(work: object, seconds: float) -> None:
        learned.append(abs(engine.cost.seconds(work) / seconds - 1))  # type: ignore[union-attr,arg-type]
        fixed.append(abs(static.seconds(work) / seconds - 1))  # type: ignore[arg-type]
        observe(work, seconds)  # type: ignore[arg-type]

    engine.cost.observe = compare  # type: ignore[method-assign]
    generator = random.Random(0)
    for number in range(80):
        engine.add(mixed_request(number, generator))
        for _ in range(generator.choice([0, 1, 5, 40])):
            engine.step()
    while engine.has_work:
        engine.step()
    return (
        f"Of {len(learned):,} steps of a changing mix (80 requests, prompts of 20 to 800 tokens,"
        " answers of 20 to 100, up to tens at once), the median error of the predicted time was"
        f" **{median(learned):.1%}** with the model as it is used, which learns from every step,"
        f" and {median(fixed):.1%} with what was measured at start-up alone. Target: ≤ 10%"
        f" ({'met' if median(learned) <= 0.1 else '**missed**'})."
    )


def mixed_request(number: int, generator: random.Random) -> Request:
    """A prompt of random tokens and an answer of some length."""
    length = generator.choice([20, 100, 300, 800])
    return Request(
        id=str(number),
        prompt=tuple(generator.randrange(1000) for _ in range(length)),
        sampling=Sampling(temperature=0),
        stopping=Stopping(max_tokens=generator.choice([20, 60, 100]), ignore_eos=True),
    )


if __name__ == "__main__":
    app()
