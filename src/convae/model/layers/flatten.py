"""Map to vector."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.model.layers.base import Layer, ReceptiveField, full_receptive_field


class Flatten(Layer):
    """Turns channels and sizes into one vector of features."""

    any_size: ClassVar = False

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, features)."""
        return x.flatten(1)

    def receptive_field(self) -> ReceptiveField:
        """The whole input, since what follows sees the vector."""
        return full_receptive_field(self.shape_in)
