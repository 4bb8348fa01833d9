"""From the store through pinned memory to the device: what a training loses to its data."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import convae
from benchmarks.gpu.engine import Steps, find_case
from benchmarks.gpu.record import Record, Settings
from benchmarks.training.__main__ import data_of
from benchmarks.training.ceiling import median_seconds

SECONDS = 60
STEPS = {"torch-vae": 150, "celeba-beta": 60, "sd-f8-256": 10}


def measure(record: Record, settings: Settings) -> None:
    """The share of a training's time that waits for batches, and its rate against that of the step alone."""
    names = ["tiny"] if settings.is_small else list(STEPS)
    for name in record.missing(names):
        with record.row(name) as row:
            row.update(measure_training(name, settings))
    for name in record.missing(["copy to the device, pinned", "copy to the device, pageable"]):
        with record.row(name) as row:
            pixels = torch.randint(0, 255, (1 << (20 if settings.is_small else 26),), dtype=torch.uint8)
            if name.endswith("pinned") and settings.device == "cuda":
                pixels = pixels.pin_memory()
            copy = functools.partial(pixels.to, settings.device, copy=True)
            seconds = median_seconds(copy, settings.device)
            row["gbytes"] = pixels.numel() / seconds / 1e9


def measure_training(name: str, settings: Settings) -> dict[str, float]:
    """One row: the second epoch of a training from the store."""
    case = replace(find_case(name), steps=STEPS.get(name, 4))
    with data_of(case, 0) as data, tempfile.TemporaryDirectory() as folder:
        convae.train(
            {
                "data": {"source": str(data), "validation": 0, "test": 0, "size": case.input[1:]},
                "model": case.model,
                "training": {
                    "epochs": 2,
                    "batch_size": case.batch,
                    "pictures_every": 0,
                    "device": settings.device,
                    "compile": "off",
                },
            },
            out=Path(folder) / "run",
            quiet=True,
        )
        rows = [json.loads(line) for line in (Path(folder) / "run" / "timings.jsonl").read_text().splitlines()]
    alone = case.batch / Steps(case.model, case.batch, settings.device).seconds(0.02 if settings.is_small else 0.2)
    rate, waiting = (rows[-1][key] for key in ("images_per_second", "waiting_for_data"))
    return {"images_per_second": rate, "alone": alone, "share": rate / alone, "waiting": waiting}


def table(record: Record) -> str:
    """As Markdown."""
    lines = [
        "| network | training from the store, images/s | step alone | training / alone | waiting for batches |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    copies = []
    for name, row in record.rows.items():
        if "gbytes" in row:
            copies.append(f"{name}: {row['gbytes']:.1f} GB/s")
            continue
        cells = [f"{row['images_per_second']:,.0f}", f"{row['alone']:,.0f}", f"{row['share']:.0%}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['waiting']:.1%} |")
    return "\n".join([*lines, "", "; ".join(copies)])
