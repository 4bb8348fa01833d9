"""Sigmoid linear unit, x·sigmoid(x) (Elfwing et al. 2018, arXiv:1702.03118)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from convae.model.layers.base import Activation


class SiLU(Activation):
    """Sigmoid linear unit, x·sigmoid(x) (Elfwing et al. 2018, arXiv:1702.03118)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise."""
        return F.silu(x)
