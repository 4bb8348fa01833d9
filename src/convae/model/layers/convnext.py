"""ConvNeXt block."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from convae.core.arguments import PerAxis, Positive
from convae.core.context import Context
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, FeatureMap, ReceptiveField
from convae.model.layers.residual import Residual


class ConvNeXt(ContextLayer):
    """ConvNeXt block: large depthwise convolution, norm, and a pointwise MLP, with a skip connection (Liu et al. 2022).

    As in arXiv:2201.03545, without layer scale; the initial weights make the branch small instead.

    Args:
        shape: (channels, *sizes).
        kernel: size of the depthwise kernel.
        expansion: hidden channels of the MLP, as a multiple of the channels.
    """

    compiles = True
    example: ClassVar = {"kernel": 3, "expansion": 2}
    keeps_shape = True

    def __init__(self, shape: Shape, *, kernel: PerAxis = 7, expansion: Positive = 4) -> None:
        super().__init__(shape)
        channels = shape[0]
        layers: list[Any] = [
            {"conv": {"channels": channels, "kernel": kernel, "groups": "depthwise"}},
            "layer-norm",
            {"conv": {"channels": expansion * channels, "kernel": 1}},
            "gelu",
            {"conv": {"channels": channels, "kernel": 1}},
        ]
        self.block = Residual(shape, layers=layers)

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to the same shape."""
        y: Tensor = self.block(x, context)
        return y

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """The residual connection, with its norms over the entire image."""
        return self.block.compute_in_slices(x, context)

    def receptive_field(self) -> ReceptiveField | None:
        """The receptive field of the depthwise convolution."""
        return self.block.receptive_field()
