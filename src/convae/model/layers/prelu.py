"""Parametric rectified linear unit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.types import Shape
from convae.model.layers.base import Activation

INITIAL_SLOPE = 0.25


class PReLU(Activation):
    """Leaky rectified linear unit with a learned slope for each channel (He et al. 2015, arXiv:1502.01852)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.slope = nn.Parameter(torch.empty(shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, with the slope of the channel."""
        return F.prelu(x, self.slope)

    def reset(self, generator: torch.Generator) -> None:
        """Initializes the slopes as in the paper."""
        nn.init.constant_(self.slope, INITIAL_SLOPE)
