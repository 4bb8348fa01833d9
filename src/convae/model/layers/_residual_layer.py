"""Layers that are one residual connection."""

from __future__ import annotations

from torch import Tensor

from convae.core.context import Context
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, FeatureMap, ReceptiveField
from convae.model.layers.residual import Residual


class ResidualLayer(ContextLayer):
    """A layer that is one residual connection, which its constructor makes of layers.

    Attributes:
        block: the residual connection.
    """

    block: Residual
    compiles = True

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to (batch, channels, *sizes over the stride)."""
        y: Tensor = self.block(x, context)
        return y

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """The residual connection, with its norms over the entire image."""
        return self.block.compute_in_slices(x, context)

    def shape_out(self) -> Shape:
        """The output shape of the branch."""
        return self.block.shape_out()

    def receptive_field(self) -> ReceptiveField | None:
        """The receptive field of the branch."""
        return self.block.receptive_field()
