"""The rate of a machine in convolutions, forward and backward: `python -m benchmarks.training.ceiling`."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Shape:
    """A 3×3 convolution that keeps channels and size.

    Attributes:
        channels: input and output channels.
        side: height and width of the images.
        batch: images.
    """

    channels: int
    side: int
    batch: int

    def __str__(self) -> str:
        return f"3×3, {self.channels} channels, {self.side}×{self.side}, batch of {self.batch}"

    @property
    def flops(self) -> float:
        """Operations of a forward and backward pass, two for each multiplication with its addition."""
        return 3.0 * 2 * 9 * self.channels**2 * self.side**2 * self.batch


CPU_SHAPES = (
    *(Shape(channels, side, 32) for channels, side in ((64, 56), (128, 28), (256, 14), (256, 28), (512, 14))),
    *(Shape(channels, side, 16) for channels, side in ((128, 56), (512, 28))),
    Shape(256, 56, 8),
)
"""Large enough for all cores, small enough for seconds."""
GPU_SHAPES = (
    *(Shape(channels, side, 16) for channels, side in ((128, 256), (256, 128), (256, 256), (512, 64), (512, 128))),
    *(Shape(channels, side, 64) for channels, side in ((512, 32), (512, 64), (1024, 32))),
)
"""Those of `sd-f8` at 256×256, and larger ones."""


@dataclass(frozen=True)
class Rate:
    """A measured rate.

    Attributes:
        shape: the convolution.
        precision: of weights and activations.
        both: FLOP/s of forward and backward pass together.
        forward: FLOP/s of the forward pass alone.
    """

    shape: Shape
    precision: str
    both: float
    forward: float

    def __str__(self) -> str:
        return f"{self.both / 1e9:,.0f} GFLOP/s ({self.precision}, {self.shape}, channels_last, forward and backward)"


def measure_rate(shape: Shape, precision: str, device: str, clock: Callable[[], float] = time.perf_counter) -> Rate:
    """The rate of a convolution on random values in channels_last, the fastest of some repeats."""
    kind = DTYPES[precision]

    def values(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, device=device).to(kind).contiguous(memory_format=torch.channels_last)

    layer = torch.nn.Conv2d(shape.channels, shape.channels, 3, padding=1, bias=False, device=device, dtype=kind)
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    x = values(shape.batch, shape.channels, shape.side, shape.side).requires_grad_()
    # Gradients as they come from a layer after this one: dense, in its layout.
    gradient = values(shape.batch, shape.channels, shape.side, shape.side)

    def both() -> None:
        x.grad = layer.weight.grad = None
        torch.autograd.backward(layer(x), gradient)

    @torch.no_grad()
    def forward() -> None:
        layer(x)

    seconds = [min(time_calls(run, device, clock=clock)) for run in (both, forward)]
    return Rate(shape, precision, shape.flops / seconds[0], shape.flops / 3 / seconds[1])


def median_seconds(run: Callable[[], object], device: str, repeats: int = 5, least: float = 0.02) -> float:
    """Seconds of one call, the median of some repeats of as many calls as take `least` seconds."""
    return statistics.median(time_calls(run, device, repeats, least))


def time_calls(
    run: Callable[[], object],
    device: str,
    repeats: int = 5,
    least: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of one call in each of some repeats of as many calls as take `least` seconds."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(2):
        run()
    wait()
    began = clock()
    run()
    wait()
    count = max(1, round(least / max(clock() - began, 1e-6)))
    found = []
    for _ in range(repeats):
        began = clock()
        for _ in range(count):
            run()
        wait()
        found.append((clock() - began) / count)
    return found


def measure_rates(
    device: str, precisions: Sequence[str], clock: Callable[[], float] = time.perf_counter
) -> Iterator[Rate]:
    """The rates of convolutions in some precisions."""
    from convae.core.allocator import keep_freed_memory

    keep_freed_memory()
    for precision in precisions:
        for shape in GPU_SHAPES if device == "cuda" else CPU_SHAPES:
            yield measure_rate(shape, precision, device, clock=clock)


def fastest(device: str, precision: str) -> Rate:
    """The fastest of some convolutions in a precision of recipes: the ceiling of training steps."""
    from convae.training.loop.numerics import choose_precision

    chosen = choose_precision(precision, torch.device(device))  # type: ignore[arg-type]  # checked by the parser
    return max(measure_rates(device, [chosen]), key=lambda rate: rate.both)


def main() -> None:
    """Prints a line for each convolution, and the fastest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", nargs="+", action="extend", choices=list(DTYPES))
    parser.add_argument("--per-core", action="store_true", help="one thread, in processor time, for a busy machine")
    given = parser.parse_args()
    if given.per_core:
        torch.set_num_threads(1)
    found = []
    for rate in measure_rates(
        given.device, given.precision or ["bf16", "float32"], time.process_time if given.per_core else time.perf_counter
    ):
        found.append(rate)
        print(f"{rate}; forward alone {rate.forward / 1e9:,.0f}", flush=True)
    print(f"\nfastest: {max(found, key=lambda rate: rate.both)}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
