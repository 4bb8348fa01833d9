"""Reshaping of vectors to feature maps."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from convae.core.arguments import Positive
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers.base import Layer, needs_axes


class Unflatten(Layer):
    """Reshapes a vector of features to channels and sizes.

    Args:
        shape: (features,) of the input.
        to: (channels, *sizes) of the output; their product is the number of features.
    """

    example: ClassVar = {"to": (2, 2, 2)}
    example_shape: ClassVar = (8,)
    any_size: ClassVar = False

    def __init__(self, shape: Shape, *, to: tuple[Positive, ...]) -> None:
        super().__init__(shape)
        needs_axes(shape, 0)
        if math.prod(to) != shape[0]:
            raise ShapeError(f"expected {math.prod(to)} features for {shape_text(to)}, got {shape[0]}")
        self.target_shape = to

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to (batch, *to)."""
        return x.reshape(x.shape[0], *self.target_shape)

    def inverse(self, y: Tensor) -> Tensor:
        """(batch, *to) to (batch, features)."""
        return y.flatten(1)
