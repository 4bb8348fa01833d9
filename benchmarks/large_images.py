"""Large images in slices: difference from the whole image, peak memory, processor time.

    python -m benchmarks.large_images run FOLDER [--only decode-512] [--memory 2GiB]
    python -m benchmarks.large_images table FOLDER

Each measurement is a process of its own with one thread, whose peak of resident memory is compared with that before the
pass. Weights are random; they and the latents depend on the case only. What FOLDER holds already is not measured again,
so that a run that was stopped continues. A pass over the whole image is measured only if it is expected to take less
than --most.

Where the whole image is not measured, two divisions into slices are compared: slices with another amount of memory have
other borders and store other maps.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import convae
from convae.cli._parsing import byte_count
from convae.core.random import torch_generator

SD_F8: dict[str, Any] = {"preset": "sd-f8", "input": [3, 256, 256]}
NARROW: dict[str, Any] = {**SD_F8, "width": 32}
VOLUME: dict[str, Any] = {
    "preset": "sd-f8",
    "input": [1, 32, 32, 32],
    "width": 16,
    "multipliers": [1, 2, 2],
    "blocks": 1,
}


@dataclass(frozen=True)
class Case:
    """One pass over one image.

    Attributes:
        spec: the model.
        sizes: of the image.
        encodes: whether the image is encoded; otherwise a latent is decoded.
        whole_gib: expected memory of the pass over the whole image, with attention that may store its scores.
    """

    spec: dict[str, Any]
    sizes: tuple[int, ...]
    encodes: bool
    whole_gib: float


CASES = {
    "decode-512": Case(SD_F8, (512, 512), False, 2.4),
    "encode-512": Case(SD_F8, (512, 512), True, 2),
    "decode-1024": Case(SD_F8, (1024, 1024), False, 4.2),
    "decode-2048": Case(SD_F8, (2048, 2048), False, 38),
    "decode-4096": Case(SD_F8, (4096, 4096), False, 520),
    "narrow-decode-512": Case(NARROW, (512, 512), False, 0.4),
    "narrow-decode-1024": Case(NARROW, (1024, 1024), False, 2.4),
    "narrow-decode-2048": Case(NARROW, (2048, 2048), False, 34),
    "narrow-encode-2048": Case(NARROW, (2048, 2048), True, 34),
    "narrow-decode-4096": Case(NARROW, (4096, 4096), False, 520),
    "volume-decode-64": Case(VOLUME, (64, 64, 64), False, 0.4),
    "volume-encode-64": Case(VOLUME, (64, 64, 64), True, 0.4),
    "volume-decode-96": Case(VOLUME, (96, 96, 96), False, 1.7),
    "volume-decode-128": Case(VOLUME, (128, 128, 128), False, 10.5),
}


def compute(name: str, memory: str, folder: Path) -> None:
    """Measures one pass in this process, and writes the result."""
    case = CASES[name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = convae.build(case.spec).eval()
    if memory != "whole":
        model.use_slices("auto", memory=byte_count(memory))
    generator = torch_generator(0, "large images")
    step = model.size_step or ()
    with torch.no_grad():
        if case.encodes:
            given = torch.rand(1, case.spec["input"][0], *case.sizes, generator=generator)
        else:
            grid = (size // by for size, by in zip(case.sizes, step, strict=True))
            given = torch.randn(1, model.latent_shape[0], *grid, generator=generator)
        before, start = _peak(), time.process_time()
        found = model.encode(given).mean if case.encodes else model.decode(given).mean
        seconds = time.process_time() - start
    np.save(folder / f"{name} {memory}.npy", found.numpy())
    result = {"seconds": seconds, "mib": (_peak() - before) / 2**20, "sizes": list(case.sizes)}
    (folder / f"{name} {memory}.json").write_text(json.dumps(result))


def _peak() -> int:
    """Peak of the resident memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(folder: Path, only: list[str], memories: list[str], most_gib: float) -> None:
    """Measures what is missing, one process after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in only:
        whole = ["whole"] if CASES[name].whole_gib <= most_gib else []
        for memory in [*whole, *memories]:
            if (folder / f"{name} {memory}.json").exists():
                continue
            print(name, memory, flush=True)
            subprocess.run([sys.executable, "-m", __spec__.name, "one", str(folder), name, memory], check=True)
    table(folder)


def table(folder: Path) -> None:
    """Prints the results as a table."""
    print("| pass | memory allowed | peak, MiB | seconds | largest difference from | |")
    print("|---|---:|---:|---:|---:|---|")
    for name in CASES:
        found = sorted(folder.glob(f"{name} *.json"), key=lambda path: ("whole" not in path.name, path.name))
        first = None
        for path in found:
            memory, row = path.stem.removeprefix(f"{name} "), json.loads(path.read_text())
            values = np.load(path.with_suffix(".npy")).astype(np.float64)
            difference = "" if first is None else f"{np.abs(values - first[1]).max():.1e} | {first[0]}"
            first = first or (memory, values)
            allowed = "whole image" if memory == "whole" else memory
            print(f"| {name} | {allowed} | {row['mib']:,.0f} | {row['seconds']:,.0f} | {difference or ' | '} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("folder", type=Path)
    runs.add_argument("--only", nargs="*", action="extend", choices=list(CASES))
    runs.add_argument("--memory", nargs="*", action="extend")
    runs.add_argument("--most", type=float, default=6, help="GiB of a pass over the whole image")
    one = commands.add_parser("one")
    one.add_argument("folder", type=Path)
    one.add_argument("name", choices=list(CASES))
    one.add_argument("memory")
    commands.add_parser("table").add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.command == "run":
        run(given.folder, given.only or list(CASES), given.memory or ["1GiB"], given.most)
    elif given.command == "one":
        compute(given.name, given.memory, given.folder)
    else:
        table(given.folder)


if __name__ == "__main__":
    main()
