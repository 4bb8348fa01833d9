"""Residual connection around a list of layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from convae.core.context import Context, call_module
from convae.core.description import LayerList
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, FeatureMap, Layer, Network, ReceptiveField
from convae.model.layers.conv import Conv

BRANCH_INIT_SCALE = 0.1
"""Factor on the last initial weight of a residual branch, so that a deep stack begins close to the identity."""


class Residual(ContextLayer):
    """Residual connection around a list of layers (He et al. 2016, arXiv:1512.03385).

    If the layers change channels or sizes, the skip connection is a 1×1 convolution of the matching stride, unless it
    is given.

    Args:
        shape: (channels, *sizes).
        layers: the branch, a list of layers.
        skip: the skip connection, a list of layers to the output shape of the branch.
    """

    compiles = True
    example: ClassVar = {"layers": ["relu", {"conv": {"channels": 4}}]}

    def __init__(self, shape: Shape, *, layers: LayerList, skip: LayerList | None = None) -> None:
        super().__init__(shape)
        self.branch = Network(shape, layers, "layers", init_scale=BRANCH_INIT_SCALE)
        out = self.branch.shape_out
        self.skip: nn.Module = nn.Identity()
        if skip is not None:
            self.skip = Network(shape, skip, "skip")
            if self.skip.shape_out != out:
                raise ShapeError(
                    f"its branch changes {shape_text(shape)} to {shape_text(out)}, but skip to "
                    f"{shape_text(self.skip.shape_out)}"
                )
        elif out != shape:
            if len(out) != len(shape) or len(shape) == 1:
                raise ShapeError(f"its branch changes {shape_text(shape)} to {shape_text(out)}, which cannot be added")
            stride = tuple(-(-size // new) for size, new in zip(shape[1:], out[1:], strict=True))
            self.skip = Conv(shape, channels=out[0], kernel=1, stride=stride)
            if self.skip.shape_out() != out:
                raise ShapeError(
                    f"its branch changes {shape_text(shape)} to {shape_text(out)}, which matches no stride"
                )

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to the output shape of the branch."""
        skip = call_module(self.skip, x, context)
        # A sum has the memory layout of its first term: that of convolutions, where `x` was a vector before.
        return torch.add(self.branch(x, context), skip)

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """The sum of the rows of both."""
        x.share()
        with x.sliced.inside_branch():
            branch = self.branch.compute_in_slices(x, context)
            skip = x
            if isinstance(self.skip, Layer | Network):
                skip = self.skip.compute_in_slices(x, context)
        return skip.joined([branch], torch.add, branch.shape[1])

    def shape_out(self) -> Shape:
        """The output shape of the branch."""
        return self.branch.shape_out

    def receptive_field(self) -> ReceptiveField | None:
        """The receptive field of the branch, which contains that of the skip connection unless that is given."""
        own, other = self.branch.receptive_field(), None
        if isinstance(self.skip, Network):
            other = self.skip.receptive_field()
        if own is None or other is None:
            return own or other
        return ReceptiveField(tuple(map(max, own.kernel, other.kernel)), own.stride)
