"""Sub-pixel downsampling."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.arguments import PerAxis
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers.base import Layer, ReceptiveField, needs_axes, per_axis


class PixelUnshuffle(Layer):
    """Rearranges positions to channels, the inverse of pixel shuffle (Shi et al. 2016, arXiv:1609.05158).

    Args:
        shape: (channels, *sizes); sizes must be divisible by the scales.
        scale: factor, one number or one per axis.
    """

    example: ClassVar = {"scale": 2}

    def __init__(self, shape: Shape, *, scale: PerAxis = 2) -> None:
        super().__init__(shape)
        self.axes = needs_axes(shape, 1, 2, 3)
        self.scale = per_axis(scale, shape, "scale")
        if any(size % factor for size, factor in zip(shape[1:], self.scale, strict=True)):
            raise ShapeError(f"expected sizes divisible by {shape_text(self.scale)}, got the shape {shape_text(shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channel times scales, *sizes / scale)."""
        less = tuple(size // scale for size, scale in zip(x.shape[2:], self.scale, strict=True))
        pairs = [number for pair in zip(less, self.scale, strict=True) for number in pair]
        split = x.reshape(*x.shape[:2], *pairs)
        scales, sizes = [3 + 2 * n for n in range(self.axes)], [2 + 2 * n for n in range(self.axes)]
        return split.permute(0, 1, *scales, *sizes).reshape(x.shape[0], -1, *less)

    def receptive_field(self) -> ReceptiveField:
        """The positions that are merged."""
        return ReceptiveField(tuple(map(float, self.scale)), tuple(map(float, self.scale)))

    def halo(self) -> tuple[int, int]:
        """The rest of the positions that are merged."""
        return 0, self.scale[0] - 1
