"""Residual connection around a list of layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from convae.core.context import Context
from convae.core.description import LayerList
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, Network, ReceptiveField
from convae.model.layers.conv import Conv

BRANCH_INIT_SCALE = 0.1
"""Factor on the last initial weight of a residual branch, so that a deep stack begins close to the identity."""


class Residual(ContextLayer):
    """Residual connection around a list of layers (He et al. 2016, arXiv:1512.03385).

    If the layers change channels or sizes, the skip connection is a 1×1 convolution of the matching stride.

    Args:
        shape: (channels, *sizes).
        layers: the branch, a list of layers.
    """

    example: ClassVar = {"layers": ["relu", {"conv": {"channels": 4}}]}

    def __init__(self, shape: Shape, *, layers: LayerList) -> None:
        super().__init__(shape)
        self.branch = Network(shape, layers, "layers", init_scale=BRANCH_INIT_SCALE)
        out = self.branch.shape_out
        self.skip: nn.Module = nn.Identity()
        if out != shape:
            if len(out) != len(shape) or len(shape) == 1:
                raise ShapeError(f"its branch changes {shape_text(shape)} to {shape_text(out)}, which cannot be added")
            stride = tuple(-(-size // new) for size, new in zip(shape[1:], out[1:], strict=True))
            self.skip = Conv(shape, channels=out[0], kernel=1, stride=stride)
            reached = tuple(self.skip(torch.empty(1, *shape, device="meta")).shape[1:])
            if reached != out:
                raise ShapeError(
                    f"its branch changes {shape_text(shape)} to {shape_text(out)}, which matches no stride"
                )

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to the output shape of the branch."""
        return torch.add(self.skip(x), self.branch(x, context))

    def shape_out(self) -> Shape:
        """The output shape of the branch."""
        return self.branch.shape_out

    def receptive_field(self) -> ReceptiveField | None:
        """The receptive field of the branch, which contains that of the skip connection."""
        return self.branch.receptive_field()
