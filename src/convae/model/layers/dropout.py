"""Dropout."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from convae.core.random import Counted
from convae.core.types import Shape
from convae.model.layers.base import Layer


class Dropout(Layer):
    """In training, zeroes values at random and scales the others up (Srivastava et al. 2014).

    It draws from torch's default generator, or, where `counted` is set, as the trainer does at each step, for each
    image from the image's place in the batch.

    Args:
        shape: any.
        rate: probability of zeroing a value, in [0, 1).
        whole_channels: zero whole channels instead of single values.
    """

    keeps_shape = True
    counted: Counted | None = None

    def __init__(
        self, shape: Shape, *, rate: Annotated[float, Field(ge=0, lt=1)] = 0.5, whole_channels: bool = False
    ) -> None:
        super().__init__(shape)
        self.rate = rate
        self.whole_channels = whole_channels

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training or not self.rate:
            return x
        whole = self.whole_channels and x.ndim >= 3
        values = x.new_ones(x.shape[:2]) if whole else x
        if self.counted is None:
            factors = F.dropout(torch.ones_like(values), self.rate)
        else:
            kept, factors = 1 - self.rate, torch.empty_like(values)
            for row, generator in zip(factors, self.counted.each(len(x), x.device), strict=True):
                row.bernoulli_(kept, generator=generator)
            factors /= kept
        return x * (factors.view(*factors.shape, *(1,) * (x.ndim - 2)) if whole else factors)
