"""Dropout."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from convae.core.context import Context
from convae.core.noise import drop_values
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
    only_in_training = True

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
        noise = None if context is None else context.noise_for(self.stream)
        if not (self.whole_channels and x.ndim >= 3):
            return drop_values(x, self.rate, noise)
        factors = drop_values(x.new_ones(x.shape[:2]), self.rate, noise)
        return x * factors.view(*factors.shape, *(1,) * (x.ndim - 2))
