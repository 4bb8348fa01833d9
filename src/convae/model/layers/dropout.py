"""Dropout."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from convae.core.types import Shape
from convae.model.layers.base import Layer


class Dropout(Layer):
    """In training, zeroes values at random and scales the others up (Srivastava et al. 2014).

    It draws from torch's default generator, which the trainer seeds anew for each step.

    Args:
        shape: any.
        share: probability of zeroing a value, in [0, 1).
        whole_channels: zero whole channels instead of single values.
    """

    def __init__(
        self, shape: Shape, *, share: Annotated[float, Field(ge=0, lt=1)] = 0.5, whole_channels: bool = False
    ) -> None:
        super().__init__(shape)
        self.share = share
        self.whole_channels = whole_channels

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.whole_channels or x.ndim < 3:
            return F.dropout(x, self.share, self.training)
        return x * F.dropout(x.new_ones(x.shape[:2]), self.share, self.training).view(
            *x.shape[:2], *(1,) * (x.ndim - 2)
        )
