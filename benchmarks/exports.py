"""Exported presets: size, difference from torch, and images per second of torch, onnxruntime and OpenVINO.

    python -m benchmarks.exports [--only resnet,dcgan] [--results FILE.jsonl] [--out FILE.md]

Every preset is built with random weights, for 64×64 images where its own are larger.
Its graphs `encode` and `decode` are exported, and compared with torch on two random images. Speeds are of one thread,
in images per second of processor time, so that other work on the machine changes them little; batches of 256 that
would take longer than `LONGEST` are left out. Finished presets are read from `--results`, so that the command resumes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import convae
from benchmarks.records import add_result, read_results
from convae.core.errors import ConvaeError
from convae.core.files import write_text
from convae.core.names import one_line, shape_text
from convae.describe import resolve
from convae.interop import choose_engine
from convae.interop.engines import EngineName
from convae.model import PRESETS, InferenceEngine
from convae.model.construct import construct
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE

SIDES = (64, 128, 256, 512)
LONGEST = 5.0
"""Seconds that a batch of 256 may take, by the time of a single image."""
BUDGET = 0.3
"""Seconds of a measurement, which has at least three batches, or one that takes longer than a second."""
ENGINES: tuple[EngineName, ...] = ("torch", "onnx", "openvino")
SPEEDS = [(computation, size) for computation in ("encode", "decode") for size in (1, 256)]
INTRODUCTION = """# Exported presets

`make export-table` exports each preset with random weights and compares it: the size of the ONNX files `encode` and
`decode` together, the largest difference from torch of either engine (relative to the largest value where that is above
1), and images per second of encoding and of decoding, in batches of 1 and of 256, by torch, onnxruntime (`--engine
onnx`) and OpenVINO. Speeds are of one thread of an AMD EPYC (AVX-512 with bf16) that other work shared, per second of
processor time. A dash is a batch that would take longer than 5 seconds. Presets for larger images are built for
64×64, or the smallest size that they accept.
"""


def build(name: str) -> VAE:
    """A preset for small images, with random weights."""
    own = construct(resolve({"preset": name})).input_shape
    sides = [None] if max(own[1:]) <= SIDES[0] else list(SIDES)
    for side in sides:
        described: dict[str, Any] = {"preset": name}
        if side is not None:
            described["input"] = [own[0], side, side]
        with contextlib.suppress(ConvaeError):
            return convae.build(described).eval()
    raise ValueError(f"preset {name}: accepts none of the sizes {SIDES}")


def measure(compute: Callable[[], object]) -> float:
    """Seconds of processor time of one call, the median."""
    compute()
    found: list[float] = []
    while sum(found) < BUDGET or (len(found) < 3 and sum(found) < 1):
        begin = time.process_time()
        compute()
        found.append(time.process_time() - begin)
    return statistics.median(found)


@torch.no_grad()
def speeds(engine: InferenceEngine) -> dict[str, float | None]:
    """Images per second by computation and batch size, such as `encode 256`."""
    model = engine.model
    found: dict[str, float | None] = {}
    for computation, size in SPEEDS:
        key = f"{computation} {size}"
        alone = found.get(f"{computation} 1")
        if size > 1 and alone and size / alone > LONGEST:
            found[key] = None
            continue
        if computation == "encode":
            images = torch.rand(size, *model.input_shape)
            with unchecked_values():  # as in the loops over data
                seconds = measure(partial(engine.encode, images))
        else:
            z = model.nearest_latents(torch.randn(size, *model.latent_shape))
            seconds = measure(partial(engine.decode, z))
        found[key] = size / max(seconds, 1e-9)
    return found


def examine(name: str, cache: Path) -> dict[str, Any]:
    """What is measured of a preset."""
    torch.manual_seed(0)
    model = build(name)
    row: dict[str, Any] = {
        "preset": name,
        "input": shape_text(model.input_shape),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "difference": 0.0,
        "speeds": {},
        "skipped": {},
    }
    for engine in ENGINES:
        try:
            choice = choose_engine(model, engine, images=torch.rand(2, *model.input_shape))
        except ConvaeError as error:
            row["skipped"][engine] = one_line(error)
            continue
        row["difference"] = max(row["difference"], choice.difference)
        row["speeds"][engine] = speeds(choice.engine)
    row["megabytes"] = sum(path.stat().st_size for path in cache.rglob("*.onnx")) / 1e6
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The measurements as Markdown."""
    heads = ["preset", "images", "MB", "difference"]
    heads += [f"{computation}, {size}" for computation, size in SPEEDS]
    lines = [f"| {' | '.join(heads)} |", "| --- | --- |" + " ---: |" * (len(heads) - 2)]
    for row in rows:
        cells = [f"`{row['preset']}`", row["input"], f"{row['megabytes']:,.1f}", f"{row['difference']:.0e}"]
        for computation, size in SPEEDS:
            values = [row["speeds"].get(engine, {}).get(f"{computation} {size}") for engine in ENGINES]
            cells.append(" / ".join("—" if value is None else _short(value) for value in values))
        lines.append(f"| {' | '.join(cells)} |")
    skipped = [
        f"- `{row['preset']}`, {engine}: {reason}"
        for row in rows
        for engine, reason in row.get("skipped", {}).items()
        if "pip install" not in reason
    ]
    return "\n".join([*lines, *([""] if skipped else []), *skipped]) + "\n"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def main() -> None:
    """Measures what is missing, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names of presets, with commas between")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/exports.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/exports.md"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = {row["preset"]: row for row in read_results(given.results)}
    for name in PRESETS.own_names():
        if name in known or (given.only and name not in given.only.split(",")):
            continue
        with tempfile.TemporaryDirectory(prefix="convae-") as cache:
            os.environ["CONVAE_CACHE"] = cache
            known[name] = examine(name, Path(cache))
        print(add_result(given.results, known[name]), flush=True)
    rows = [known[name] for name in PRESETS.own_names() if name in known]
    missing = ", ".join(f"`{name}`" for name in PRESETS.own_names() if name not in known)
    end = f"\nNot measured yet: {missing}.\n" if missing else ""
    text = f"{INTRODUCTION}\nEach cell of speeds: {' / '.join(ENGINES)}, images/s.\n\n{table(rows)}{end}"
    write_text(given.out, text)


if __name__ == "__main__":
    main()
