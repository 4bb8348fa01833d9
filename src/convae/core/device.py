"""Choice of the device, its memory, and copies to it."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import torch
from torch import Tensor

from convae.core.errors import ConfigError

_UNKNOWN = 8 << 30
"""Memory of a machine that does not say how much it has."""


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `mps`; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: the machine has no such device.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if not present.get(name, False):
        there = ", ".join(kind for kind, available in present.items() if available)
        raise ConfigError(f"device '{name}' is not available on this machine. Use auto, {there}")
    return torch.device(name)


def copy_to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. A copy to a GPU goes through pinned memory, so that the host does not wait for it."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


@functools.cache
def device_memory(device: torch.device) -> int:
    """Bytes of memory of a device, or of the part of it that the process may have; free or not."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [_UNKNOWN]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container, in either version
        limit = Path("/sys/fs/cgroup") / name
        if limit.exists() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
            found.append(int(text))
    return min(found)


def is_on_meta() -> bool:
    """Whether tensors are made on the meta device here, where they have no values and models are checked.

    Arithmetic with tensors on it imports torch's compiler, which takes a second or two.
    """
    return torch.get_default_device().type == "meta"


def on_meta() -> contextlib.AbstractContextManager[object]:
    """Makes tensors on the meta device; entered once, since each time makes every function of torch slower."""
    return contextlib.nullcontext() if is_on_meta() else torch.device("meta")
