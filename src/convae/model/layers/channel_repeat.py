"""More channels without parameters: each of them several times."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.arguments import Positive
from convae.core.errors import ShapeError
from convae.core.names import count_text
from convae.core.types import Shape
from convae.model.layers.base import Layer


class ChannelRepeat(Layer):
    """Repeats each channel, without parameters.

    Before `pixel-shuffle` it is the channel-to-space shortcut of DC-AE (Chen et al. 2024, arXiv:2410.10733), for `skip`
    of the layer `residual`.

    Args:
        shape: (channels, *sizes).
        channels: output channels, a multiple of the input's.
    """

    example: ClassVar = {"channels": 8}

    def __init__(self, shape: Shape, *, channels: Positive) -> None:
        super().__init__(shape)
        if channels % shape[0]:
            raise ShapeError(
                f"{count_text(shape[0], 'channel')} cannot be repeated to {channels}. Use a multiple of {shape[0]}"
            )
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channels, *sizes)."""
        times = self.channels // x.shape[1]
        return x.unsqueeze(2).expand(-1, -1, times, *x.shape[2:]).reshape(x.shape[0], self.channels, *x.shape[2:])

    def shape_out(self) -> Shape:
        """The output channels and the same sizes."""
        return (self.channels, *self.shape_in[1:])
