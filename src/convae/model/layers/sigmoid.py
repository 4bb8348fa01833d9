"""Logistic function, into (0, 1)."""

from __future__ import annotations

from torch import Tensor

from convae.model.layers.base import Activation


class Sigmoid(Activation):
    """Logistic function, into (0, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise."""
        return x.sigmoid()

    def inverse(self, y: Tensor) -> Tensor:
        """Log-odds."""
        return y.logit()
