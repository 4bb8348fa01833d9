"""Interpolation to exact sizes."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import PerAxis
from convae.core.types import Shape
from convae.model.layers.base import Layer, ReceptiveField, needs_axes, per_axis
from convae.model.layers.upsample import LINEAR


class Resize(Layer):
    """Resizes to exact sizes, by repetition or linear interpolation.

    For an integer factor use `upsample`, which supports images of other sizes.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        to: the sizes, one number or one per axis.
        mode: `nearest` repeats values, `linear` interpolates between them (bilinear, trilinear).
    """

    example: ClassVar = {"to": 11}
    any_size: ClassVar = False

    def __init__(self, shape: Shape, *, to: PerAxis, mode: Literal["nearest", "linear"] = "nearest") -> None:
        super().__init__(shape)
        axes = needs_axes(shape, 1, 2, 3)
        self.sizes = list(per_axis(to, shape, "to"))
        self.mode = "nearest" if mode == "nearest" else LINEAR[axes]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channel, *to)."""
        return F.interpolate(x, size=self.sizes, mode=self.mode)

    def receptive_field(self) -> ReceptiveField:
        """One position, or two with interpolation, and a stride of old / new size."""
        seen = 1.0 if self.mode == "nearest" else 2.0
        steps = tuple(old / new for old, new in zip(self.shape_in[1:], self.sizes, strict=True))
        return ReceptiveField((seen,) * len(steps), steps)
