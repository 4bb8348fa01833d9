"""Encoding, decoding and sampling, images per second, in float32 and with weights in half precision."""

from __future__ import annotations

import torch

import convae
from benchmarks.gpu.engine import find_case
from benchmarks.gpu.record import Record, Settings
from benchmarks.training.ceiling import median_seconds

SECONDS = 45
BATCHES = {"torch-vae": 512, "celeba-beta": 256, "sd-f8-256": 16}
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


def measure(record: Record, settings: Settings) -> None:
    """A row for each network and precision."""
    names = ["tiny"] if settings.is_small else list(BATCHES)
    for name in names:
        for precision, dtype in DTYPES.items():
            if not record.missing([key := f"{name}, {precision}"]):
                continue
            with record.row(key) as row, torch.no_grad():
                batch = BATCHES.get(name, 4)
                model = convae.build(find_case(name).model).to(settings.device, dtype).eval()
                model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
                x = torch.rand(batch, *model.input_shape, device=settings.device).to(dtype)
                x = x.contiguous(memory_format=torch.channels_last)
                z = model.encode(x).mean
                operations = {
                    "encode": lambda model=model, x=x: model.encode(x).mean,
                    "decode": lambda model=model, z=z: model.decode(z).mean,
                    "sample": lambda model=model, batch=batch: model.sample(batch),
                }
                for operation, run in operations.items():
                    row[operation] = batch / median_seconds(run, settings.device, repeats=3)


def table(record: Record) -> str:
    """As Markdown."""
    lines = ["| network | encode, images/s | decode | sample |", "| --- | ---: | ---: | ---: |"]
    for name, row in record.rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:,.0f}" for key in ("encode", "decode", "sample")) + " |")
    return "\n".join(lines)
