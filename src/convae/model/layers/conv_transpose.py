"""Transposed convolution over 1, 2 or 3 spatial axes."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import NonNegative, PerAxis, Positive
from convae.core.errors import ShapeError
from convae.core.types import Shape
from convae.model.layers.base import Layer, ReceptiveField, needs_axes, per_axis
from convae.model.layers.conv import Padding, convolve, ends, meetings

_OVER_AXES = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class ConvTranspose(Layer):
    """Transposed convolution over 1, 2 or 3 spatial axes.

    With padding `same`, an axis of n positions becomes (n − 1)·stride + 1 + output padding, which covers every size
    that a `same` convolution of that stride maps to n; by default n·stride.

    Args:
        shape: (channels, *sizes) of the input.
        channels: output channels.
        kernel: kernel size, one number or one per axis.
        stride: output positions per input position.
        padding: `same`, or the number of positions removed at both ends.
        output_padding: positions added at the end of each axis, below the stride; None for stride − 1 with `same`
            and 0 otherwise.
        bias: whether to add a bias.
    """

    example: ClassVar = {"channels": 6, "stride": 2}

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Positive,
        kernel: PerAxis = 3,
        stride: PerAxis = 1,
        padding: Padding = "same",
        output_padding: NonNegative | tuple[NonNegative, ...] | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(shape)
        self.axes = needs_axes(shape, 1, 2, 3)
        self.kernel = per_axis(kernel, shape, "kernel")
        self.stride = per_axis(stride, shape, "stride")
        low, high = ends(padding, self.kernel, (1,) * self.axes, shape)
        if output_padding is None:
            added = tuple(step - 1 for step in self.stride) if padding == "same" else (0,) * self.axes
        else:
            added = per_axis(output_padding, shape, "output_padding")
        for step, number in zip(self.stride, added, strict=True):
            if number >= step:
                raise ShapeError(f"expected output_padding below the stride {step}, got {number}")
        self.padding = low
        # An even kernel with `same` gives one more position at the end: less to add, or one to remove.
        more = tuple(a - (up - down) for a, up, down in zip(added, high, low, strict=True))
        self.output_padding = tuple(max(0, number) for number in more)
        self.cut = tuple(max(0, -number) for number in more)
        self.weight = nn.Parameter(torch.empty(shape[0], channels, *self.kernel))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None
        sizes = self.shape_out()[1:]
        if min(sizes) < 1:
            raise ShapeError(f"its output is empty, with the sizes {list(sizes)}. Use less padding or a larger kernel")

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channels, *larger sizes)."""
        geometry = {"stride": self.stride, "padding": self.padding, "output_padding": self.output_padding}
        y = convolve(_OVER_AXES[self.axes], x, self.weight, self.bias, **geometry)
        for axis, number in enumerate(self.cut, start=2):
            if number:
                y = y.narrow(axis, 0, y.shape[axis] - number)
        return y

    def shape_out(self) -> Shape:
        """The output channels, and sizes of the input times the stride, up to padding."""
        sizes = (
            (n - 1) * s + k - 2 * p + o - c
            for n, s, k, p, o, c in zip(
                self.shape_in[1:], self.stride, self.kernel, self.padding, self.output_padding, self.cut, strict=True
            )
        )
        return (self.weight.shape[1], *sizes)

    def fan_in(self) -> float:
        """Input channels times the average number of kernel positions per output."""
        sizes = self.shape_out()[1:]
        meet = (
            meetings(size, out, k, s, 1, low) / out
            for out, size, k, s, low in zip(
                sizes, self.shape_in[1:], self.kernel, self.stride, self.padding, strict=True
            )
        )
        return math.prod(meet, start=float(self.shape_in[0]))

    def receptive_field(self) -> ReceptiveField:
        """ceil(kernel / stride) inputs, with a stride of 1 / stride."""
        return ReceptiveField(
            tuple(float(-(-k // s)) for k, s in zip(self.kernel, self.stride, strict=True)),
            tuple(1 / s for s in self.stride),
        )

    def halo(self) -> tuple[int, int]:
        """Input rows whose kernels reach an output row, and below as many as its own slice must have to hold it."""
        kernel, stride, padding = self.kernel[0], self.stride[0], self.padding[0]
        missing = -((kernel - stride - 2 * padding - self.cut[0]) // stride)
        return max(0, (kernel - 1 - padding) // stride), max((stride - 1 + padding) // stride, missing)
