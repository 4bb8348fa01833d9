"""Images per second of one training step on all cores, shared by 1, 2, 4 … processes: `python benchmarks/scaling.py`.

Every side has the same cores and the same batch; the sides alternate, and medians are compared. The all-reduce of the
gradients is timed alone too, for the estimate of a step as computation plus communication: on one host both use the
same cores, so that neither hides the other. Across hosts they overlap, for which `docs/scaling.md` has the formula.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed

import convae

ROUNDS = 3


def launched(processes: int, threads: int, arguments: list[str]) -> str:
    """Runs Python in so many ranks, and returns what they print."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout


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
    launched(processes, max(1, cores // processes), ["-m", "convae", "train", *command])
    rows = [json.loads(line) for line in (folder / "timings.jsonl").open()]
    return [row["images_per_second"] for row in rows[1:]]


def time_all_reduce(parameters: int) -> None:
    """Prints the median seconds of an all-reduce of so many float32, from within torchrun."""
    distributed.init_process_group("gloo")
    gradients, seconds = torch.ones(parameters), []
    for _ in range(30):
        distributed.barrier()
        start = time.perf_counter()
        distributed.all_reduce(gradients)
        gradients /= distributed.get_world_size()
        seconds.append(time.perf_counter() - start)
    if distributed.get_rank() == 0:
        print(statistics.median(seconds))
    time.sleep(0.2)  # torch's issue 56297: gloo's threads finish before the group is destroyed
    distributed.destroy_process_group()


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="torch-vae")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--processes", type=int, nargs="+", action="extend")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--all-reduce", type=int, metavar="PARAMETERS", help="time only this, inside torchrun")
    given = parser.parse_args()
    if given.all_reduce:
        time_all_reduce(given.all_reduce)
        return
    found: dict[int, list[float]] = {processes: [] for processes in given.processes or (1, 2)}
    with tempfile.TemporaryDirectory() as parent:
        for number in range(ROUNDS):
            for processes in found:
                folder = Path(parent) / f"{number}-{processes}"
                found[processes] += measured(given.preset, given.size, given.batch, processes, given.cores, folder)
        model = convae.load(folder)
        parameters = sum(parameter.numel() for parameter in model.parameters())
    one = next(iter(found))
    base = statistics.median(found[one])
    print(
        f"{given.preset} 3x{given.size}x{given.size}, {parameters / 1e6:.1f} M parameters, batch {given.batch}, "
        f"{given.cores} cores, float32"
    )
    for processes, rates in found.items():
        middle, (low, _, high) = statistics.median(rates), statistics.quantiles(rates, n=4)
        threads = max(1, given.cores // processes)
        line = f"{processes} x {threads} threads: {middle:,.1f} images/s (quartiles {low:,.1f}-{high:,.1f}), "
        line += f"{middle / base:.2f} of the first"
        if processes > one:
            seconds = float(launched(processes, threads, [__file__, "--all-reduce", str(parameters)]))
            step = given.batch / base
            line += f"; all-reduce {1e3 * seconds:.1f} ms, estimate {step / (step + seconds):.2f}"
        print(line)


if __name__ == "__main__":
    main()
