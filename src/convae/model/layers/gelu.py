"""Gaussian error linear unit, x·Φ(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from convae.model.layers.base import Activation


class GELU(Activation):
    """Gaussian error linear unit, x·Φ(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise."""
        return F.gelu(x)
