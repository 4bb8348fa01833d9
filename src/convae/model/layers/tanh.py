"""Hyperbolic tangent, into (-1, 1)."""

from __future__ import annotations

from torch import Tensor

from convae.model.layers.base import Activation


class Tanh(Activation):
    """Hyperbolic tangent, into (-1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise."""
        return x.tanh()

    def inverse(self, y: Tensor) -> Tensor:
        """Inverse hyperbolic tangent."""
        return y.atanh()
