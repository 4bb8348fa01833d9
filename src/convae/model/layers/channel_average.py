"""Fewer channels without parameters: the mean of groups of them."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.arguments import Positive
from convae.core.errors import ShapeError
from convae.core.names import count_text
from convae.core.types import Shape
from convae.model.layers.base import Layer


class ChannelAverage(Layer):
    """The mean of each group of consecutive channels, without parameters.

    After `pixel-unshuffle` it is the space-to-channel shortcut of DC-AE (Chen et al. 2024, arXiv:2410.10733), as
    `skip` of the layer `residual`.

    Args:
        shape: (channels, *sizes); channels must be divisible by the output channels.
        channels: output channels.
    """

    example: ClassVar = {"channels": 2}

    def __init__(self, shape: Shape, *, channels: Positive) -> None:
        super().__init__(shape)
        if shape[0] % channels:
            raise ShapeError(
                f"{count_text(shape[0], 'channel')} cannot be averaged to {channels}. Use a divisor of {shape[0]}"
            )
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channels, *sizes)."""
        return x.reshape(x.shape[0], self.channels, -1, *x.shape[2:]).mean(2)

    def shape_out(self) -> Shape:
        """The output channels and the same sizes."""
        return (self.channels, *self.shape_in[1:])
