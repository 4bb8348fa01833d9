"""A mask of the observed values, as channels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.arguments import Fraction
from convae.core.types import Shape
from convae.model.layers.base import Layer


class ObservedMask(Layer):
    """Appends a mask to images with missing values: 1 where a value is observed, 0 where it is the fill value.

    First layer of an encoder for `data.missing` with `data.fill` of the same value, so that the encoder distinguishes a
    missing value from an observed one; missing values are 0 after it. Integers of any number of bits never have the
    value 0.5 (127.5 / 255). Without missing values the mask is 1.

    Args:
        shape: (channels, *sizes).
        fill: the value of missing ones, `data.fill`.
    """

    example_shape: ClassVar = (3, 8, 8)

    def __init__(self, shape: Shape, *, fill: Fraction = 0.5) -> None:
        super().__init__(shape)
        self.fill = fill

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, 2 · channel, *sizes): the values, then the mask of each channel."""
        observed = 1 - (x == self.fill).to(x.dtype)
        return torch.cat([x * observed, observed], 1)

    def shape_out(self) -> Shape:
        """Twice the channels and the same sizes."""
        return (2 * self.shape_in[0], *self.shape_in[1:])
