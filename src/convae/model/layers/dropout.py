"""Dropout."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from convae.core.context import Context
from convae.core.noise import CountedNoise
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer


class Dropout(ContextLayer):
    """Dropout: in training, zeroes random values and scales the others (Srivastava et al. 2014).

    Its noise is from torch's default generator, or, in the trainer, counter-based by the position of the image in the
    global batch.

    Args:
        shape: any.
        rate: probability of zeroing a value, in [0, 1).
        whole_channels: zero entire channels instead of single values.
    """

    keeps_shape = True

    def __init__(
        self, shape: Shape, *, rate: Annotated[float, Field(ge=0, lt=1)] = 0.5, whole_channels: bool = False
    ) -> None:
        super().__init__(shape)
        self.rate = rate
        self.whole_channels = whole_channels

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """Any shape."""
        if not self.training or not self.rate:
            return x
        whole = self.whole_channels and x.ndim >= 3
        values = x.new_ones(x.shape[:2]) if whole else x
        noise = None if context is None else context.noise_for(self.stream)
        if not isinstance(noise, CountedNoise):
            factors = F.dropout(torch.ones_like(values), self.rate)
        else:
            kept, factors = 1 - self.rate, torch.empty_like(values)
            for row, generator in zip(factors, noise.generators(len(x), x.device), strict=True):
                row.bernoulli_(kept, generator=generator)
            factors /= kept
        return x * (factors.view(*factors.shape, *(1,) * (x.ndim - 2)) if whole else factors)
