"""ConvNeXt block."""

from __future__ import annotations

from typing import Any, ClassVar

from convae.core.arguments import PerAxis, Positive
from convae.core.types import Shape
from convae.model.layers._residual_layer import ResidualLayer
from convae.model.layers.residual import Residual


class ConvNeXt(ResidualLayer):
    """ConvNeXt block: large depthwise convolution, norm, and a pointwise MLP, with a skip connection (Liu et al. 2022).

    As in arXiv:2201.03545, without layer scale; the initial weights make the branch small instead.

    Args:
        shape: (channels, *sizes).
        kernel: size of the depthwise kernel.
        expansion: hidden channels of the MLP, as a multiple of the channels.
    """

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
