"""Choice of the device, and copies to it."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.errors import ConfigError


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
