"""How a side is driven: it takes a number of steps when it is asked to, and says how long they took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator

import torch

WARM_UP = 3
"""Steps before the first turn: kernels are chosen, memory is fetched."""


def asked() -> Iterator[int]:
    """The numbers of steps that are asked for; each is answered with the seconds until the next is taken."""
    print("ready", flush=True)
    for line in sys.stdin:
        _wait()
        began = time.perf_counter()
        yield int(line)
        _wait()
        print(time.perf_counter() - began, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def serve(steps: Callable[[int], None]) -> None:
    """Takes steps as asked, after some to warm up."""
    steps(WARM_UP)
    for count in asked():
        steps(count)


def _wait() -> None:
    """Until the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
