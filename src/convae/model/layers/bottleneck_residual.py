"""Bottleneck residual block."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.arguments import Named, PerAxis, Positive
from convae.core.context import Context
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, FeatureMap, ReceptiveField
from convae.model.layers.residual import Residual


class BottleneckResidual(ContextLayer):
    """Residual block of convolutions with kernels 1, 3 and 1 and fewer channels in the middle (He et al. 2016).

    In the pre-activation order of arXiv:1603.05027: norm and activation before each convolution.

    Args:
        shape: (channels, *sizes).
        channels: output channels.
        stride: stride of the middle convolution.
        reduction: the middle has output channels / reduction, at least one.
        norm: norm before each convolution.
        activation: activation after each norm.
    """

    compiles = True
    example: ClassVar = {"channels": 8}

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Positive,
        stride: PerAxis = 1,
        reduction: Positive = 4,
        norm: Named = "batch-norm",
        activation: Named = "relu",
    ) -> None:
        super().__init__(shape)
        middle = max(1, channels // reduction)
        convolutions = (
            {"channels": middle, "kernel": 1},
            {"channels": middle, "stride": stride},
            {"channels": channels, "kernel": 1},
        )
        self.block = Residual(
            shape, layers=[part for conv in convolutions for part in (norm, activation, {"conv": conv})]
        )

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
        """The receptive field of the middle convolution."""
        return self.block.receptive_field()
