"""How a side is driven: it takes a number of steps when it is asked to, and says how long they took."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.training.profile import profiled, wanted

WARM_UP = 3
"""Steps before the first turn: kernels are chosen, memory is fetched."""


def asked() -> Iterator[int]:
    """The numbers of steps that are asked for; each is answered with the seconds until the next is taken."""
    print("ready", flush=True)
    for line in sys.stdin:
        _wait()
        began = time.perf_counter()
        with profiled(int(line)) if wanted() else contextlib.nullcontext():
            yield int(line)
        _wait()
        print(time.perf_counter() - began, flush=True)
    print(_peak(), flush=True)


def serve(steps: Callable[[int], None]) -> None:
    """Takes steps as asked, after some to warm up."""
    steps(WARM_UP)
    for count in asked():
        steps(count)


def _peak() -> float:
    """MiB that the process had at the most, on a GPU those of its allocator."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere than on Linux the other figure is right; here it begins with the parent's
        rows = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(rows["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _wait() -> None:
    """Until the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
