"""Sub-pixel upsampling."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from convae.core.arguments import PerAxis
from convae.core.errors import ShapeError
from convae.core.types import Shape
from convae.model.layers.base import Layer, ReceptiveField, needs_axes, per_axis


class PixelShuffle(Layer):
    """Pixel shuffle: rearranges channels to a larger grid (Shi et al. 2016, arXiv:1609.05158).

    Args:
        shape: (channels, *sizes); channels must be divisible by the product of the scales.
        scale: factor, one number or one per axis.
    """

    example: ClassVar = {"scale": 2}

    example_shape: ClassVar[Shape] = (8, 4, 4)

    def __init__(self, shape: Shape, *, scale: PerAxis = 2) -> None:
        super().__init__(shape)
        self.axes = needs_axes(shape, 1, 2, 3)
        self.scale = per_axis(scale, shape, "scale")
        if shape[0] % math.prod(self.scale):
            raise ShapeError(
                f"{shape[0]} channels are not divisible by {math.prod(self.scale)}. Change scale or the channels"
            )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channel / scales, *sizes times scale)."""
        sizes = x.shape[2:]
        split = x.reshape(x.shape[0], -1, *self.scale, *sizes)
        # Each size is followed by its own scale: (batch, channel, size 1, scale 1, size 2, scale 2, …).
        order = [axis for n in range(self.axes) for axis in (2 + self.axes + n, 2 + n)]
        sizes_out = (size * scale for size, scale in zip(sizes, self.scale, strict=True))
        return split.permute(0, 1, *order).reshape(x.shape[0], -1, *sizes_out)

    def inverse(self, y: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channel times scales, *sizes / scale)."""
        pairs = [
            number for size, scale in zip(y.shape[2:], self.scale, strict=True) for number in (size // scale, scale)
        ]
        split = y.reshape(*y.shape[:2], *pairs)
        sizes, scales = [2 + 2 * n for n in range(self.axes)], [3 + 2 * n for n in range(self.axes)]
        return split.permute(0, 1, *scales, *sizes).reshape(y.shape[0], -1, *pairs[::2])

    def receptive_field(self) -> ReceptiveField:
        """One position, with a stride of 1 / scale."""
        return ReceptiveField((1.0,) * self.axes, tuple(1 / factor for factor in self.scale))

    def halo(self) -> tuple[int, int]:
        """No others."""
        return 0, 0
