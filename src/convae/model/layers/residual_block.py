"""Pre-activation residual block."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.arguments import Named, PerAxis, Positive
from convae.core.context import Context
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, FeatureMap, ReceptiveField
from convae.model.layers.residual import Residual


class ResidualBlock(ContextLayer):
    """Pre-activation residual block: norm, activation and convolution, twice (He et al. 2016, arXiv:1603.05027).

    With the defaults, group norm of 32 groups and SiLU, it is the block of the latent diffusion autoencoder.

    Args:
        shape: (channels, *sizes).
        channels: output channels.
        stride: stride of the first convolution.
        norm: norm before each convolution.
        activation: activation after each norm.
    """

    compiles = True
    example: ClassVar = {"channels": 6, "norm": {"group-norm": {"groups": 2}}}

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Positive,
        stride: PerAxis = 1,
        norm: Named = "group-norm",
        activation: Named = "silu",
    ) -> None:
        super().__init__(shape)
        first, second = {"conv": {"channels": channels, "stride": stride}}, {"conv": {"channels": channels}}
        self.block = Residual(shape, layers=[norm, activation, first, norm, activation, second])

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
        """The receptive field of the two convolutions."""
        return self.block.receptive_field()
