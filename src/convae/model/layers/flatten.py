"""Flattening of feature maps."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.model.layers.base import Layer, ReceptiveField, full_receptive_field


class Flatten(Layer):
    """Flattens channels and sizes to a vector of features."""

    any_size: ClassVar = False

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, features)."""
        return x.flatten(1)

    def receptive_field(self) -> ReceptiveField:
        """The entire input."""
        return full_receptive_field(self.shape_in)
