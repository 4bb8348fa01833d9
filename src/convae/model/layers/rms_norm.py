"""Root mean square normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convae.core.arguments import PositiveFloat
from convae.core.precision import at_least_float32
from convae.core.types import Shape
from convae.model.layers.base import Layer, along_channels


class RMSNorm(Layer):
    """Division by the root mean square over the channels at each position (Zhang & Sennrich 2019, arXiv:1910.07467).

    With a gain and, as in DC-AE, a bias per channel.

    Args:
        shape: any.
        eps: added to the mean square.
    """

    keeps_shape = True

    def __init__(self, shape: Shape, *, eps: PositiveFloat = 1e-5) -> None:
        super().__init__(shape)
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(shape[0]))
        self.bias = nn.Parameter(torch.empty(shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        values = at_least_float32(x)
        normal = values * torch.rsqrt(values.square().mean(1, keepdim=True) + self.eps)
        gain, bias = (along_channels(parameter, x.ndim - 2) for parameter in (self.weight, self.bias))
        return (normal * gain + bias).to(x.dtype)
