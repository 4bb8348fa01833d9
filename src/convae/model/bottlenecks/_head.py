"""Bottlenecks with a linear head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.bottlenecks.base import Bottleneck


class HeadBottleneck(Bottleneck):
    """A bottleneck that maps features to the values of the latent by a linear layer, or takes them as they are.

    Attributes:
        head: whether it has the linear layer.
    """

    head: bool

    def _make_head(self, shape: Shape, rows: int, head: bool, latent: str) -> None:
        """Sets `head`, and creates its parameters.

        Args:
            shape: (channels, *sizes) of the features.
            rows: number of values at each position that the latent depends on.
            head: whether there is a linear layer.
            latent: the latent, for the message.

        Raises:
            ShapeError: there is none, and the features have another number of channels.
        """
        self.head = head
        if head:
            self.weight = nn.Parameter(torch.empty(rows, shape[0]))
            self.bias = nn.Parameter(torch.empty(rows))
        elif shape[0] != rows:
            raise ShapeError(f"expected {rows} feature channels for {latent} without a head, got {shape_text(shape)}")

    def head_output(self, features: Tensor) -> Tensor:
        """The values that the latent depends on, (batch, row, *sizes)."""
        return project(features, self.weight, self.bias) if self.head else features

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the head."""
        if self.head:
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(self.weight.shape[1]))
            self.bias.zero_()


def project(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Applies a 1×1 convolution, or a linear layer to a vector: (batch, channel, *sizes) to (batch, row, *sizes)."""
    if features.ndim == 2:
        return F.linear(features, weight, bias)
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[features.ndim]
    return convolve(features, weight.view(*weight.shape, *(1,) * (features.ndim - 2)), bias)
