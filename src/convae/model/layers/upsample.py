"""Upsampling without parameters."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import PerAxis
from convae.core.types import Shape
from convae.model.layers.base import Layer, ReceptiveField, needs_axes, per_axis

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""torch's names of linear interpolation over 1, 2 and 3 axes."""


class Upsample(Layer):
    """Upsampling by an integer factor, by repetition or linear interpolation.

    Args:
        shape: (channels, *sizes) with 1, 2 or 3 spatial axes.
        scale: factor, one number or one per axis.
        mode: `nearest` repeats values, `linear` interpolates between them (bilinear, trilinear).
    """

    example: ClassVar = {"scale": 2}

    def __init__(self, shape: Shape, *, scale: PerAxis = 2, mode: Literal["nearest", "linear"] = "nearest") -> None:
        super().__init__(shape)
        axes = needs_axes(shape, 1, 2, 3)
        self.scale = per_axis(scale, shape, "scale")
        self.mode = "nearest" if mode == "nearest" else LINEAR[axes]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channel, *sizes times scale)."""
        sizes = [size * scale for size, scale in zip(x.shape[2:], self.scale, strict=True)]
        return F.interpolate(x, size=sizes, mode=self.mode)

    def receptive_field(self) -> ReceptiveField:
        """One position, or two with interpolation, and a stride of 1 / scale."""
        seen = 1.0 if self.mode == "nearest" else 2.0
        return ReceptiveField((seen,) * len(self.scale), tuple(1 / factor for factor in self.scale))

    def halo(self) -> tuple[int, int]:
        """The neighbors, with interpolation."""
        return (0, 0) if self.mode == "nearest" else (1, 1)
