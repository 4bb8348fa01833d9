"""Instance normalization."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from convae.core.arguments import PositiveFloat
from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers.base import FeatureMap, Layer
from convae.model.layers.base.statistics import normalization


class InstanceNorm(Layer):
    """Instance normalization (Ulyanov et al. 2016, arXiv:1607.08022).

    Args:
        shape: any with more than one position.
        eps: added to the variance.
    """

    over_positions: ClassVar = True
    keeps_shape = True

    def __init__(self, shape: Shape, *, eps: PositiveFloat = 1e-5) -> None:
        super().__init__(shape)
        if math.prod(shape[1:]) == 1:
            raise ShapeError(f"expected more than one position per channel, got the shape {shape_text(shape)}")
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(shape[0]))
        self.bias = nn.Parameter(torch.empty(shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes)."""
        return torch.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """One pass for the statistics of the entire image, then the rows."""
        return x.pointwise(normalization(x, x.shape[1], self.weight, self.bias, self.eps))
