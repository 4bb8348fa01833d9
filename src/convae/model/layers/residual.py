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
"""The last weight of a residual branch is this much smaller, so that a deep stack begins close to the identity."""


class Residual(ContextLayer):
    """Adds what a list of layers makes of the input to the input itself (He et al. 2016, arXiv:1512.03385).

    Where the layers change channels or sizes, the input passes a 1×1 convolution of the matching stride first.

    Args:
        shape: (channels, *sizes).
        layers: the branch, written as any list of layers.
    """

    example: ClassVar = {"layers": ["relu", {"conv": {"channels": 4}}]}

    def __init__(self, shape: Shape, *, layers: LayerList) -> None:
        super().__init__(shape)
        self.branch = Network(shape, layers, "branch", init_scale=BRANCH_INIT_SCALE)
        out = self.branch.shape_out
        self.skip: nn.Module = nn.Identity()
        if out != shape:
            if len(out) != len(shape) or len(shape) == 1:
                raise ShapeError(f"its branch turns {shape_text(shape)} into {shape_text(out)}, which cannot be added")
            stride = tuple(-(-size // new) for size, new in zip(shape[1:], out[1:], strict=True))
            self.skip = Conv(shape, channels=out[0], kernel=1, stride=stride)
            reached = tuple(self.skip(torch.empty(1, *shape, device="meta")).shape[1:])
            if reached != out:
                raise ShapeError(
                    f"its branch turns {shape_text(shape)} into {shape_text(out)}, which no stride reaches"
                )

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to the branch's shape."""
        return torch.add(self.skip(x), self.branch(x, context))

    def shape_out(self) -> Shape:
        """The branch's."""
        return self.branch.shape_out

    def receptive_field(self) -> ReceptiveField | None:
        """What the branch sees, which is never less than what the skip sees."""
        return self.branch.receptive_field()
