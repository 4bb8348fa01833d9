"""RunningMeans of figures over steps, kept on the device: reading one would wait for it at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

COUNT = "count"
"""The name of the number of steps in the sums."""


class RunningMeans:
    """Running means of named figures.

    Args:
        device: where the sums are.
        stored: sums to go on with, as `sums` gave them.
    """

    def __init__(self, device: torch.device, stored: Mapping[str, float]) -> None:
        self._names = list(stored)
        # MPS has no float64.
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self._device = device
        self._sums = torch.tensor(list(stored.values()), dtype=self.dtype, device=device)

    def add(self, figures: Mapping[str, Tensor], skipped: Tensor) -> None:
        """One more step, unless it was skipped: scalars, by name; always the same names until `clear`."""
        one = torch.ones((), dtype=self.dtype, device=self._device)
        values = torch.stack([one, *(value.detach().to(self.dtype) for value in figures.values())])
        if not self._names:
            self._names = [COUNT, *figures]
            self._sums = torch.zeros_like(values)
        self._sums += torch.where(skipped, torch.zeros_like(values), values)

    def sums(self) -> dict[str, float]:
        """The sums and the number of steps in them; waits for the device."""
        return dict(zip(self._names, self._sums.tolist(), strict=True))

    def read(self) -> dict[str, float]:
        """The means; empty where there are none. Waits for the device."""
        sums = self.sums()
        count = sums.pop(COUNT, 0.0)
        return {name: value / count for name, value in sums.items()} if count else {}

    def clear(self) -> None:
        """Begins anew."""
        self._names, self._sums = [], self._sums[:0]
