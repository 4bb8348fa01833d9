"""Group normalization."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from convae.core.arguments import Positive, PositiveFloat
from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.inputs import is_transformed
from convae.model.layers import _group_norm
from convae.model.layers.base import FeatureMap, Layer
from convae.model.layers.base.statistics import normalization


class GroupNorm(Layer):
    """Group normalization (Wu & He 2018, arXiv:1803.08494).

    Args:
        shape: any; channels must be divisible by groups.
        groups: number of groups.
        eps: added to the variance.
    """

    example: ClassVar = {"groups": 2}
    over_positions: ClassVar = True
    keeps_shape = True

    def __init__(self, shape: Shape, *, groups: Positive = 32, eps: PositiveFloat = 1e-5) -> None:
        super().__init__(shape)
        if shape[0] % groups:
            raise ShapeError(f"{shape[0]} channels are not divisible by {groups} groups. Change groups or the channels")
        if math.prod(shape) == groups:
            raise ShapeError(
                f"expected more than one value in each of {groups} groups, got the shape {shape_text(shape)}"
            )
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(shape[0]))
        self.bias = nn.Parameter(torch.empty(shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if torch.is_grad_enabled() and not is_transformed() and _group_norm.pays(x, self.groups, self.weight):
            return _group_norm.group_norm(x, self.groups, self.weight, self.bias, self.eps)
        return torch.group_norm(x, self.groups, self.weight, self.bias, self.eps)

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """One pass for the statistics of the entire image, then the rows."""
        return x.pointwise(normalization(x, self.groups, self.weight, self.bias, self.eps))
