"""Affine map of values with fixed numbers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.types import Shape
from convae.model.layers.base import Layer

Number = Annotated[float, Field(allow_inf_nan=False)]


class Rescale(Layer):
    """Multiplies by a fixed scale and adds a fixed offset, such as `{scale: 2, offset: -1}` from [0, 1] to [-1, 1].

    Published autoencoders take images in [-1, 1]; with this layer they take those of convae, in [0, 1].

    Args:
        shape: any.
        scale: factor, not 0.
        offset: added after the multiplication.
    """

    example: ClassVar = {"scale": 2.0, "offset": -1.0}
    keeps_shape = True

    def __init__(self, shape: Shape, *, scale: Number = 1.0, offset: Number = 0.0) -> None:
        super().__init__(shape)
        if scale == 0:
            raise ConfigError("scale must not be 0, which removes the input")
        self.scale = scale
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise."""
        return x * self.scale + self.offset

    def inverse(self, y: Tensor) -> Tensor:
        """The inverse map."""
        return (y - self.offset) / self.scale
