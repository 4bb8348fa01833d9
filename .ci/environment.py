"""Prints what the checks run on: results depend on the processor, its instruction set and the number of threads."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from convae.training.loop.numerics import choose_precision

PACKAGES = ("torch", "numpy", "pillow", "safetensors", "scikit-learn", "matplotlib", "pydantic")


def processor() -> str:
    """The name of the processor, as exactly as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Prints one fact a line."""
    facts = {
        "system": platform.platform(),
        "Python": platform.python_version(),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "instruction set used by torch": torch.backends.cpu.get_cpu_capability(),
        "precision: auto": choose_precision("auto", torch.device("cpu")),
        "threads": f"{torch.get_num_threads()}; OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}",
        "CUDA": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")


if __name__ == "__main__":
    main()
