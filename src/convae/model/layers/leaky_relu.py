"""Leaky rectified linear unit."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import NonNegativeFloat
from convae.core.types import Shape
from convae.model.layers.base import Activation


class LeakyReLU(Activation):
    """Leaky rectified linear unit: x if positive, otherwise slope·x (Maas et al. 2013).

    Args:
        shape: any.
        slope: factor for negative values.
    """

    def __init__(self, shape: Shape, *, slope: NonNegativeFloat = 0.01) -> None:
        super().__init__(shape)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise."""
        return F.leaky_relu(x, self.slope)
