"""What the data side costs as data sets grow, and a model of communication as ranks do.

    python -m benchmarks.growth images [--most 10000000]
    python -m benchmarks.growth ranks [--preset sd-f8] [--images 8] [--tflops 200] [--gigabytes 40]

`images`: a simulated data set, whose listing and digests have the given length and whose pixels come from a small pool,
for 10³, 10⁴ … images: seconds to divide it into splits, to the first batch, for each later batch, and the memory that
the process gained. `ranks`: seconds of a step and efficiency on 1 to 64 ranks by the formulas of `scaling.md`; measured
ranks on this machine are those of `benchmarks/scaling.py`. Batch and image size: `python -m benchmarks.training
--growth`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convae.core.types import Shape
from convae.data import Batches
from convae.data.augment import AugmentConfig
from convae.data.binarize import Binarization
from convae.data.missing import Missing
from convae.data.splits.division import divide

POOL, BATCH, LATER = 1024, 64, 20
HEADINGS = ("images", "dividing, s", "first batch, s", "later batch, ms", "memory gained, MiB")


class Simulated:
    """An image set of any length, with the pixels of a small pool."""

    name: Any = "train"
    source = "simulated"
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    augment = AugmentConfig()
    missing: Missing | None = None
    binarize: Binarization | None = None
    is_hashed = True
    shape: Shape = (3, 64, 64)
    skipped: Sequence[tuple[str, str]] = ()
    levels: int | None = 256
    image_bytes = 3 * 64 * 64
    folder = Path()
    notes: list[str] = []  # noqa: RUF012  # never changed

    def __init__(self, rows: NDArray[np.int64], identities: NDArray[np.uint8]) -> None:
        self._rows, self.identities = rows, identities
        pool = np.random.default_rng(0).integers(0, 256, (POOL, self.image_bytes), np.uint8)
        self._pool = torch.from_numpy(pool)

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, indices: NDArray[np.int64] | Sequence[int], out: Tensor | None = None) -> Tensor:
        """The pixels at `indices`."""
        rows = torch.from_numpy(self._rows[np.asarray(indices, np.int64)] % POOL)
        pixels = torch.index_select(self._pool, 0, rows, out=out)
        return pixels.view(-1, 64, 64, 3).movedim(-1, 1)

    def describe(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def resident() -> float:
    """MiB of memory of the process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def measure_images(count: int) -> list[str]:
    """The row of a number of images."""
    identities = np.random.default_rng(0).integers(0, 256, (count, 16), np.uint8)
    before, began = resident(), time.perf_counter()
    rows = divide(identities, None, 0.1, 0.1, 0).rows["train"]
    divided = time.perf_counter()
    batches = Batches(Simulated(rows, identities), BATCH, 0)
    iterator = batches.iterate(0)
    next(iterator)
    first = time.perf_counter()
    later = []
    for _ in itertools.islice(iterator, min(LATER, batches.steps_per_epoch - 1)):
        later.append(time.perf_counter())
    gaps = [end - start for start, end in itertools.pairwise([first, *later])]
    cells = [f"{divided - began:.3f}", f"{first - divided:.3f}", f"{1000 * statistics.median(gaps):.2f}"]
    return [f"{count:,}", *cells, f"{resident() - before:,.0f}"]


def model_ranks(preset: str, images: int, tflops: float, gigabytes: float) -> str:
    """The table of ranks: DDP's gradients in float32 by ring all-reduce, hidden behind two thirds of a step."""
    from torch.utils.flop_counter import FlopCounterMode

    from convae.describe import resolve
    from convae.model.construct import construct
    from convae.model.layers.base.network import count_parameters

    model = construct(resolve({"preset": preset})).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *model.input_shape, device="meta"))
    compute = 3 * int(counter.get_total_flops()) * images / (tflops * 1e12)
    lines = ["| ranks | communication, ms | step, ms | images/s | efficiency |", "| ---: | ---: | ---: | ---: | ---: |"]
    for ranks in (1, 2, 4, 8, 16, 32, 64):
        sent = 2 * (ranks - 1) / ranks * 4 * count_parameters(model)
        talk = sent / (gigabytes * 1e9)
        step = compute / 3 + max(2 * compute / 3, talk)
        rate = ranks * images / step
        lines.append(f"| {ranks} | {1e3 * talk:.1f} | {1e3 * step:.1f} | {rate:,.0f} | {compute / step:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("images", "ranks"))
    parser.add_argument("--most", type=int, default=10**7)
    parser.add_argument("--preset", default="sd-f8")
    parser.add_argument("--images", type=int, default=8, help="per rank and step")
    parser.add_argument("--tflops", type=float, default=200.0, help="of a rank in training")
    parser.add_argument("--gigabytes", type=float, default=40.0, help="per second and rank, of the network")
    given = parser.parse_args()
    if given.what == "ranks":
        print(model_ranks(given.preset, given.images, given.tflops, given.gigabytes))
        return
    print("| " + " | ".join(HEADINGS) + " |\n" + "| ---: " * len(HEADINGS) + "|")
    for power in range(3, 10):
        if 10**power <= given.most:
            print("| " + " | ".join(measure_images(10**power)) + " |", flush=True)


if __name__ == "__main__":
    main()
