"""Images per second of one training step on all cores, shared by 1, 2, 4 … processes: `python benchmarks/scaling.py`.

Every side has the same cores and the same batch; the sides alternate, and medians are compared. What several processes
cost on one host is their talk and their waiting for each other; on many hosts the talk passes a network instead, for
which `docs/scaling.md` has the arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 3


def measured(preset: str, size: int, batch: int, processes: int, cores: int, folder: Path) -> list[float]:
    """Images per second of the epochs of a run, without the first, in which memory grows."""
    steps = 8
    options = {
        "data.source": {"sprites": {"count": batch * steps, "size": size}},
        "data.validation": 0,
        "data.test": 0,
        "model.input": [3, size, size],
        "training.precision": "float32",
        "training.pictures_every": 0,
        "training.epochs": 4,
    }
    written = [f"{key}={json.dumps(value)}" for key, value in options.items()]
    command = ["--preset", preset, "--batch-size", str(batch), "--data", "sprites", *written, "--out", str(folder)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, cores // processes))}
    arguments = [sys.executable, *(launcher if processes > 1 else []), "-m", "convae", "train", *command]
    subprocess.run(arguments, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (folder / "timings.jsonl").open()]
    return [row["images_per_second"] for row in rows[1:]]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="torch-vae")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    found: dict[int, list[float]] = {processes: [] for processes in given.processes}
    with tempfile.TemporaryDirectory() as parent:
        for number in range(ROUNDS):
            for processes in given.processes:
                folder = Path(parent) / f"{number}-{processes}"
                found[processes] += measured(given.preset, given.size, given.batch, processes, given.cores, folder)
    base = statistics.median(found[given.processes[0]])
    print(f"{given.preset} 3x{given.size}x{given.size}, batch {given.batch}, {given.cores} cores, float32")
    for processes, rates in found.items():
        middle, (low, _, high) = statistics.median(rates), statistics.quantiles(rates, n=4)
        threads = max(1, given.cores // processes)
        print(
            f"{processes} x {threads} threads: {middle:,.1f} images/s (quartiles {low:,.1f}-{high:,.1f}), "
            f"{middle / base:.2f} of the first"
        )


if __name__ == "__main__":
    main()
