"""Fully connected layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.types import Shape
from convae.model.layers.base import Layer, needs_axes


class Linear(Layer):
    """Fully connected layer on a vector of features.

    Args:
        shape: (features,) of the input; put `flatten` before it for inputs with spatial axes.
        features: output features.
        bias: whether to add a bias.
    """

    example: ClassVar = {"features": 6}
    example_shape: ClassVar = (8,)

    def __init__(self, shape: Shape, *, features: Positive, bias: bool = True) -> None:
        super().__init__(shape)
        needs_axes(shape, 0)
        self.weight = nn.Parameter(torch.empty(features, shape[0]))
        self.bias = nn.Parameter(torch.empty(features)) if bias else None

    def shape_out(self) -> Shape:
        """(features,)."""
        return (self.weight.shape[0],)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features in) to (batch, features)."""
        return F.linear(x, self.weight, self.bias)

    def fan_in(self) -> float:
        """All input features."""
        return self.weight.shape[1]
