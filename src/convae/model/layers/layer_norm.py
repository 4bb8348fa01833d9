"""Layer normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convae.core.arguments import PositiveFloat
from convae.core.errors import ShapeError
from convae.core.precision import at_least_float32
from convae.core.types import Shape
from convae.model.layers.base import Layer, along_channels


class LayerNorm(Layer):
    """Layer normalization over the channels at each position (Ba, Kiros & Hinton 2016, arXiv:1607.06450).

    To normalize all channels and positions of an image together, use `group-norm` with one group.

    Args:
        shape: any with more than one channel.
        eps: added to the variance.
    """

    keeps_shape = True

    def __init__(self, shape: Shape, *, eps: PositiveFloat = 1e-6) -> None:
        super().__init__(shape)
        if shape[0] == 1:
            raise ShapeError("expected more than one channel, since a single value minus its mean is zero")
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(shape[0]))
        self.bias = nn.Parameter(torch.empty(shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        values = at_least_float32(x)
        variance, mean = torch.var_mean(values, 1, correction=0, keepdim=True)
        normal = (values - mean) * torch.rsqrt(variance + self.eps)
        gain, bias = (along_channels(parameter, x.ndim - 2) for parameter in (self.weight, self.bias))
        return (normal * gain + bias).to(x.dtype)
