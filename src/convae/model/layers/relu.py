"""Rectified linear unit: max(0, x)."""

from __future__ import annotations

from torch import Tensor

from convae.model.layers.base import Activation


class ReLU(Activation):
    """Rectified linear unit: max(0, x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise."""
        return x.relu()
