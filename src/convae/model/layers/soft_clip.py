"""Soft limit of the magnitude of values."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.arguments import PositiveFloat
from convae.core.types import Shape
from convae.model.layers.base import Activation


class SoftClip(Activation):
    """Limits values smoothly to (−limit, limit): limit · tanh(x / limit), the first layer of the decoder of TAESD.

    Small values stay as they are, since the slope at 0 is 1.

    Args:
        shape: any.
        limit: the bound.
    """

    example: ClassVar = {"limit": 3.0}

    def __init__(self, shape: Shape, *, limit: PositiveFloat = 3.0) -> None:
        super().__init__(shape)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, elementwise."""
        return torch.tanh(x / self.limit) * self.limit
