"""Batch normalization."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import PositiveFloat
from convae.core.collective import shared_sum, shares_batch_norm
from convae.core.errors import ShapeError
from convae.core.types import Shape
from convae.model.layers.base import Layer, along_channels


class BatchNorm(Layer):
    """Batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167).

    In evaluation, and while a stage freezes it, it uses the running statistics without updating them. In distributed
    training with `sync_batch_norm`, the statistics are those of the global batch, otherwise those of the rank.

    Args:
        shape: any.
        momentum: weight of the current batch in the running statistics.
        eps: added to the variance.
    """

    keeps_shape = True
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, shape: Shape, *, momentum: Annotated[float, Field(gt=0, le=1)] = 0.1, eps: PositiveFloat = 1e-5
    ) -> None:
        super().__init__(shape)
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(shape[0]))
        self.bias = nn.Parameter(torch.empty(shape[0]))
        self.register_buffer("running_mean", torch.empty(shape[0]))
        self.register_buffer("running_var", torch.empty(shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; a training batch needs more than one value per channel."""
        if self.training and shares_batch_norm():
            return self._over_processes(x)
        if self.training and x.numel() == x.shape[1]:
            raise ShapeError("batch norm cannot train on one value per channel. Use a larger batch size")
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def _over_processes(self, x: Tensor) -> Tensor:
        """Normalization by the statistics over all processes, summed in float32 or wider."""
        values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        axes, channels = [0, *range(2, x.ndim)], x.shape[1]
        own = values.new_full((1,), x.numel() / channels)
        sums = shared_sum(torch.cat([values.sum(axes), own]))
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centered = values - along_channels(mean, x.ndim - 2)
        variance = shared_sum(centered.square().sum(axes)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        gain = torch.rsqrt(variance + self.eps) * self.weight
        result = centered * along_channels(gain, x.ndim - 2) + along_channels(self.bias, x.ndim - 2)
        return result.to(x.dtype)

    def reset(self, generator: torch.Generator) -> None:
        """Initializes the running statistics to mean 0 and variance 1."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
