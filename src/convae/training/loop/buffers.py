"""Copies of the buffers of a module, for steps that are skipped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KeptBuffers:
    """Copies of buffers that a skipped step restores; those of one type are copied together.

    Args:
        buffers: of the module.
    """

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        kinds = {(buffer.dtype, buffer.device): None for buffer in buffers if buffer.numel()}
        self._groups = [
            [each for each in buffers if each.numel() and (each.dtype, each.device) == kind] for kind in kinds
        ]

    def copy(self) -> list[Tensor]:
        """A copy of the values, for `restore`."""
        return [torch.cat([buffer.flatten() for buffer in group]) for group in self._groups]

    def restore(self, before: Sequence[Tensor], unchanged: Tensor) -> None:
        """Sets the buffers to the copied values where `unchanged`, a scalar on their device, is true."""
        for group, old in zip(self._groups, before, strict=True):
            now = torch.cat([buffer.flatten() for buffer in group])
            parts = torch.where(unchanged, old, now).split([buffer.numel() for buffer in group])
            torch._foreach_copy_(group, [part.view_as(buffer) for part, buffer in zip(parts, group, strict=True)])
