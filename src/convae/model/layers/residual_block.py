"""Pre-activation residual block."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import Named, PerAxis, Positive
from convae.core.types import Shape
from convae.model.layers._residual_layer import ResidualLayer
from convae.model.layers.residual import Residual


class ResidualBlock(ResidualLayer):
    """Pre-activation residual block: norm, activation and convolution, twice (He et al. 2016, arXiv:1603.05027).

    With the defaults, group norm of 32 groups and SiLU, it is the block of the latent diffusion autoencoder.

    Args:
        shape: (channels, *sizes).
        channels: output channels.
        stride: stride of the first convolution.
        norm: norm before each convolution.
        activation: activation after each norm.
    """

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
