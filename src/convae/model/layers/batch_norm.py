"""Batch normalisation."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import PositiveFloat
from convae.core.errors import ShapeError
from convae.core.types import Shape
from convae.model.layers.base import Layer


class BatchNorm(Layer):
    """Normalises each channel over the batch and the sizes (Ioffe & Szegedy 2015, arXiv:1502.03167).

    In evaluation, and where a stage freezes it, it uses the running statistics and leaves them as they are.

    Args:
        shape: any.
        momentum: share of the newest batch in the running statistics.
        eps: added to the variance.
    """

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
        """Any shape; a training batch needs more than one value for each channel."""
        if self.training and x.numel() == x.shape[1]:
            raise ShapeError("batch norm cannot train on one value for each channel: use more images in a batch")
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

    def reset(self, generator: torch.Generator) -> None:
        """Running statistics of a standard normal input."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
