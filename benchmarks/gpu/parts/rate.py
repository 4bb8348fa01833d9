"""What the device can do: convolutions in several shapes and precisions, a matrix product, a copy."""

from __future__ import annotations

import torch

from benchmarks.gpu.record import Record, Settings
from benchmarks.training.ceiling import GPU_SHAPES, Shape, measure_rate, median_seconds

SECONDS = 40
SMALL = (Shape(8, 8, 2), Shape(16, 8, 2))


def measure(record: Record, settings: Settings) -> None:
    """FLOP/s of each convolution; bytes/s of a copy, which reads and writes each byte."""
    shapes = SMALL if settings.is_small else GPU_SHAPES
    for precision in ("bf16", "fp16", "float32"):
        # In float32 by the exact units, since tf32 is off by default.
        for shape in shapes if precision == "bf16" else shapes[:2]:
            if not record.missing([name := f"{precision}, {shape}"]):
                continue
            with record.row(name) as row:
                rate = measure_rate(shape, precision, settings.device)
                row |= {"tflops": rate.both / 1e12, "forward_tflops": rate.forward / 1e12}
    side, count = (128, 1 << 20) if settings.is_small else (8192, 1 << 32)
    if record.missing(["matrix product, bf16"]):
        with record.row("matrix product, bf16") as row:
            a, b = (torch.randn(side, side, device=settings.device).bfloat16() for _ in range(2))
            row["tflops"] = 2 * side**3 / median_seconds(lambda: a @ b, settings.device) / 1e12
    if record.missing(["copy"]):
        with record.row("copy") as row:
            source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=settings.device)
            target = torch.empty_like(source)
            row["gbytes"] = 2 * count / median_seconds(lambda: target.copy_(source), settings.device) / 1e9


def table(record: Record) -> str:
    """As Markdown."""
    lines = ["| operation | TFLOP/s, forward and backward | forward alone | GB/s |", "| --- | ---: | ---: | ---: |"]
    for name, row in record.rows.items():
        cells = [f"{row[key]:,.1f}" if key in row else "" for key in ("tflops", "forward_tflops", "gbytes")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def best(record: Record) -> float | None:
    """TFLOP/s of the fastest bf16 convolution; None if none was measured."""
    rates = [row["tflops"] for name, row in record.rows.items() if name.startswith("bf16, 3×3")]
    return max(rates, default=None)
