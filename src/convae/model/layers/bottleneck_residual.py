"""Bottleneck residual block."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import Named, PerAxis, Positive
from convae.core.types import Shape
from convae.model.layers._residual_layer import ResidualLayer
from convae.model.layers.residual import Residual


class BottleneckResidual(ResidualLayer):
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
