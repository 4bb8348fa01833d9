"""Choice of the device."""

from __future__ import annotations

import torch

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
