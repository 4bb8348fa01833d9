"""The step alone, with `torch.compile` and CUDA graphs on and off, and with cuDNN's search for algorithms."""

from __future__ import annotations

import time

import torch

from benchmarks.gpu.engine import Steps, find_case, profile_step
from benchmarks.gpu.parts import rate
from benchmarks.gpu.record import Record, Settings
from benchmarks.training.__main__ import training_flops

SECONDS = 170
VARIANTS = {
    "off": ("torch-vae", "sd-f8-256", "celeba-beta"),
    "cudnn-search": ("torch-vae", "sd-f8-256", "celeba-beta"),
    "graphs": ("torch-vae", "celeba-beta"),
    "fused": ("sd-f8-256", "torch-vae"),
}
"""The networks of each variant: `fused` is `torch.compile` alone, `graphs` with CUDA graphs."""


def measure(record: Record, settings: Settings) -> None:
    """Images/s of each variant, the seconds until its first step, launches and waits of a step."""
    for variant, cases in VARIANTS.items():
        if settings.is_small and variant in ("graphs", "fused"):
            continue  # compiling on the CPU takes long
        for name in ("tiny",) if settings.is_small else cases:
            if not record.missing([key := f"{name}, {variant}"]):
                continue
            with record.row(key) as row:
                row.update(measure_variant(name, variant, settings))
    ceiling = rate.best(Record.open(record.path.with_name("rate.json"), record.machine))
    for row in record.rows.values():
        if ceiling:
            row["share"] = row["tflops"] / ceiling
    record.write()


def measure_variant(name: str, variant: str, settings: Settings) -> dict[str, object]:
    """One row."""
    case = find_case(name)
    torch.backends.cudnn.benchmark = variant == "cudnn-search"
    began = time.perf_counter()
    steps = Steps(case.model, case.batch, settings.device, variant if variant in ("graphs", "fused") else "off")
    steps.step()
    if settings.device == "cuda":
        torch.cuda.synchronize()
    first = time.perf_counter() - began
    seconds = steps.seconds(0.02 if settings.is_small else 0.3)
    found: dict[str, object] = {
        "images_per_second": case.batch / seconds,
        "ms": 1000 * seconds,
        "first_step_s": first,
        "tflops": training_flops(case) * case.batch / seconds / 1e12,
    }
    if steps.note is not None:
        found["note"] = steps.note
    if settings.device == "cuda":
        found["profile"] = profile_step(steps.step)
        torch.backends.cudnn.benchmark = False
    return found


def table(record: Record) -> str:
    """As Markdown."""
    lines = [
        "| network, variant | ms/step | images/s | TFLOP/s | of the fastest convolution | first step, s | kernels | "
        "their time, ms | launches | waits |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in record.rows.items():
        share = f"{row['share']:.0%}" if "share" in row else ""
        profile = row.get("profile", {})
        cells = [f"{row['ms']:.2f}", f"{row['images_per_second']:,.0f}", f"{row['tflops']:.2f}", share]
        cells += [f"{row['first_step_s']:.1f}"]
        cells += [f"{profile.get(key, '')}" for key in ("kernels", "kernel_ms", "launches", "waits")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
