"""What the CPU's kernels do with a row: which row counts change its bits, and what they cost.

``python -m benchmarks.kernels`` prints the tables that ``docs/decisions.md`` quotes.
"""

import time
from collections.abc import Callable, Iterable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decoding.eager.linear import PackedLinear

# SmolLM2-135M's products, and wider ones from larger models.
LAYERS = [(576, 960), (576, 576), (576, 3072), (1536, 576)]
SHAPES = [*LAYERS, (576, 1536), (576, 49152), (2048, 8192), (4096, 4096), (4864, 896), (8192, 2048)]
NUM_LAYERS = 30
ROW_COUNTS = (1, 2, 8, 16, 32, 64, 128, 1024)

Product = Callable[[Tensor], Tensor]


def products(width: int, out_width: int, dtype: torch.dtype) -> dict[str, Product]:
    """The same random map, plain and packed."""
    linear = nn.Linear(width, out_width, bias=False, dtype=dtype).requires_grad_(False)
    packed = PackedLinear([linear])
    packed.most_rows = 1 << 30
    return {"plain": lambda rows: F.linear(rows, linear.weight), "packed": packed}


def changing_counts(product: Product, width: int, dtype: torch.dtype) -> list[int]:
    """The row counts up to 256 whose rows differ in some bit from those among 128 rows."""
    rows = torch.randn(256, width, dtype=dtype)
    expected = torch.cat([product(rows[:128]), product(rows[128:])])
    return [n for n in range(1, 257) if not torch.equal(product(rows[:n]), expected[:n])]


def ranges(numbers: Iterable[int]) -> str:
    """Write [1, 2, 3, 7] as "1-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return (
        ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "none"
    )


def milliseconds(work: Callable[[], object], rounds: int = 15) -> float:
    """The median time of the work."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times) * 1000


def print_bits(dtype: torch.dtype) -> None:
    print(f"\nRow counts (1-256) that change a row's bits, {dtype}, against 128 rows")
    for width, out_width in SHAPES:
        for name, product in products(width, out_width, dtype).items():
            changed = ranges(changing_counts(product, width, dtype))
            print(f"  {width:>5} → {out_width:<6} {name:<7} {changed}")


def print_times(dtype: torch.dtype) -> None:
    """All products of a forward of SmolLM2-135M, its output layer for one row included."""
    print(f"\nAll matrix products of a forward, {dtype}, ms by number of tokens")
    layers = [products(*shape, dtype) for _ in range(NUM_LAYERS) for shape in LAYERS]
    head = products(576, 49152, dtype)
    print("  tokens  " + "".join(f"{n:>8}" for n in ROW_COUNTS))
    for name in ("plain", "packed"):
        times = [
            milliseconds(lambda n=n, name=name: forward(layers, head, n, name, dtype))  # type: ignore[misc]
            for n in ROW_COUNTS
        ]
        print(f"  {name:<8}" + "".join(f"{t:>8.1f}" for t in times))


def forward(
    layers: list[dict[str, Product]],
    head: dict[str, Product],
    n: int,
    name: str,
    dtype: torch.dtype,
) -> None:
    inputs = {width: torch.ones(n, width, dtype=dtype) for width, _ in LAYERS}
    for layer, (width, _) in zip(layers, LAYERS * NUM_LAYERS, strict=True):
        layer[name](inputs[width])
    head[name](inputs[576][:1])


@torch.inference_mode()
def main() -> None:
    """Print all tables."""
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for dtype in (torch.bfloat16, torch.float32):
        print_bits(dtype)
        print_times(dtype)


if __name__ == "__main__":
    main()
