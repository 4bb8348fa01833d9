"""Measures what a GPU does with convae: `benchmarks/gpu.sh [--rehearse] [--out DIR] [--part NAME ...]`.

Each part is a process with a time limit, and writes DIR/PART.json row by row: a second call continues where the first
one stopped, and an error or a time-out of one part does not stop the others. At the end, and after each part, the
tables are written to benchmarks/gpu.md; with --out, to DIR/gpu.md. `--rehearse` runs everything on the CPU with the
smallest networks, in about a minute, and fails if any row failed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.gpu.record import Record, Settings, machine

PARTS = {
    "rate": "Convolutions",
    "tests": "Tests marked `gpu`",
    "steps": "Training steps against the peers",
    "compiled": "Compilation and CUDA graphs",
    "overlap": "Store, pinned memory, device",
    "throughput": "Encoding, decoding, sampling",
    "batch_size": "`find-batch-size` against the real limit",
}
"""The headings of the parts, the most important ones first."""
BUDGET = 530
"""Seconds for all parts of one call."""
LEAST = 10
"""Seconds that a part needs to start."""


def module_of(part: str) -> ModuleType:
    """The module of a part."""
    return importlib.import_module(f"benchmarks.gpu.parts.{part}")


def run_part(part: str, settings: Settings) -> None:
    """Runs a part in this process."""
    record = Record.open(settings.out / f"{part}.json", machine(settings.device))
    record.errors.pop("all", None)
    module_of(part).measure(record, settings)
    record.is_done = not record.errors
    record.write()


def start_part(part: str, settings: Settings, limit: float) -> str | None:
    """Runs a part in a process of its own; what stopped it, None if nothing did."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--run", part, "--out", str(settings.out)]
    command += ["--rehearse"] if settings.is_small else []
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
        process.wait()
        return f"stopped after {limit:.0f} seconds"
    return f"ended with the code {code}" if code else None


def report(settings: Settings) -> str:
    """The tables of all parts as Markdown."""
    facts = machine(settings.device)
    lines = ["# On a GPU", "", "Made by `benchmarks/gpu.sh`.", "", ", ".join(f"{k} {v}" for k, v in facts.items()), ""]
    for part, heading in PARTS.items():
        record = Record.open(settings.out / f"{part}.json", facts)
        if not record.rows and not record.errors:
            continue
        lines += [f"## {heading}", "", module_of(part).__doc__ or "", ""]
        if record.rows:
            lines += [module_of(part).table(record), ""]
        lines += [f"- not measured: {name}: {error}" for name, error in record.errors.items()]
        lines += ["", f"{record.seconds:.0f} seconds.", ""]
    return "\n".join(lines)


def run_parts(parts: list[str], settings: Settings) -> int:
    """Runs the parts that are not done; returns how many are not done afterwards."""
    began = time.monotonic()
    for part in parts:
        path = settings.out / f"{part}.json"
        if Record.open(path, machine(settings.device)).is_done:
            print(f"{part}: done before", flush=True)
            continue
        slower = 4 if settings.device == "cpu" else 1  # other work on the machine must not fail a rehearsal
        left = slower * BUDGET - (time.monotonic() - began)
        if left < LEAST:
            print(f"{part}: no time is left; call again", flush=True)
            continue
        print(f"{part}:", flush=True)
        stopped = start_part(part, settings, min(left, slower * module_of(part).SECONDS))
        record = Record.open(path, machine(settings.device))
        if stopped is not None:
            record.errors["all"] = stopped
            record.write()
        settings.page.write_text(report(settings), encoding="utf-8")
        print(f"{part}: {stopped or 'done'}, after {time.monotonic() - began:.0f} s in all", flush=True)
    opened = {part: Record.open(settings.out / f"{part}.json", machine(settings.device)) for part in parts}
    for part, record in opened.items():
        for name, error in record.errors.items():
            print(f"{part}, {name}: {error}")
    print(f"\n{settings.page}")
    return sum(not record.is_done for record in opened.values())


def main() -> None:
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with the smallest networks")
    parser.add_argument("--out", type=Path, help="folder of the results; benchmarks/gpu_results by default")
    parser.add_argument("--part", nargs="+", action="extend", choices=list(PARTS), metavar="NAME")
    parser.add_argument("--run", choices=list(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not (given.rehearse or torch.cuda.is_available()):
        raise SystemExit("torch sees no GPU. --rehearse runs everything on the CPU")
    out = given.out or Path(tempfile.mkdtemp() if given.rehearse else "benchmarks/gpu_results")
    out.mkdir(parents=True, exist_ok=True)
    page = out / "gpu.md" if given.out or given.rehearse else Path("benchmarks/gpu.md")
    settings = Settings("cpu" if given.rehearse else "cuda", given.rehearse, out, page)
    if given.run:
        return run_part(given.run, settings)
    not_done = run_parts(given.part or list(PARTS), settings)
    raise SystemExit(1 if not_done else 0)


if __name__ == "__main__":
    main()
