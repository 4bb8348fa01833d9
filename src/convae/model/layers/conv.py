"""Convolution over 1, 2 or 3 spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import NonNegative, PerAxis, Positive
from convae.core.errors import ShapeError
from convae.core.types import Shape
from convae.model.inputs import is_transformed
from convae.model.layers._matmul_convolution import Geometry, matmul_convolution, pays
from convae.model.layers.base import Layer, ReceptiveField, needs_axes, per_axis, window_fits

Padding = Literal["same"] | NonNegative | tuple[NonNegative, ...]
_OVER_AXES = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Conv(Layer):
    """Convolution over 1, 2 or 3 spatial axes: plain, strided, dilated, grouped or depthwise.

    With padding `same`, an axis of size n becomes ceil(n / stride) for any kernel; an even kernel is padded by one more
    position at the end. `keras` gives the same size with the fewest zeros, an odd one at the end, as in Keras and the
    latent diffusion autoencoder. A number is the padding at both ends of each axis.

    Args:
        shape: (channels, *sizes) of the input.
        channels: output channels.
        kernel: kernel size, one number or one per axis.
        stride: stride, one number or one per axis.
        padding: `same`, `keras`, or zeros at both ends.
        dilation: distance between kernel positions.
        groups: number of groups of channels, or `depthwise` for one group per channel.
        bias: whether to add a bias.
    """

    example: ClassVar = {"channels": 6}

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Positive,
        kernel: PerAxis = 3,
        stride: PerAxis = 1,
        padding: Literal["keras"] | Padding = "same",
        dilation: PerAxis = 1,
        groups: Positive | Literal["depthwise"] = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(shape)
        self.axes = needs_axes(shape, 1, 2, 3)
        self.kernel = per_axis(kernel, shape, "kernel")
        self.stride = per_axis(stride, shape, "stride")
        self.dilation = per_axis(dilation, shape, "dilation")
        self.groups = shape[0] if groups == "depthwise" else groups
        if shape[0] % self.groups or channels % self.groups:
            raise ShapeError(
                f"{shape[0]} input and {channels} output channels are not divisible by {self.groups} groups"
            )
        self.low, self.high = self._fewest() if padding == "keras" else ends(padding, self.kernel, self.dilation, shape)
        needed = tuple(n - low - high for n, low, high in zip(self._span(), self.low, self.high, strict=True))
        window_fits(needed, self.stride, shape)
        self.weight = nn.Parameter(torch.empty(channels, shape[0] // self.groups, *self.kernel))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, channels, *smaller sizes)."""
        if self.low != self.high:
            # torch pads both ends equally, so the rest of an uneven padding is added first.
            uneven = [(0, high - low) for low, high in zip(self.low, self.high, strict=True)]
            x = F.pad(x, [number for pair in reversed(uneven) for number in pair])
        geometry = {"stride": self.stride, "padding": self.low, "dilation": self.dilation, "groups": self.groups}
        return convolve(_OVER_AXES[self.axes], x, self.weight, self.bias, **geometry)

    def shape_out(self) -> Shape:
        """The output channels, and the number of positions of the kernel along each axis."""
        sizes = (
            (n + low + high - span) // step + 1
            for n, low, high, span, step in zip(
                self.shape_in[1:], self.low, self.high, self._span(), self.stride, strict=True
            )
        )
        return (self.weight.shape[0], *sizes)

    def fan_in(self) -> float:
        """Input channels per group times the average number of kernel positions inside the input."""
        sizes = self.shape_out()[1:]
        inside = (
            meetings(out, size, k, s, d, low) / out
            for out, size, k, s, d, low in zip(
                sizes, self.shape_in[1:], self.kernel, self.stride, self.dilation, self.low, strict=True
            )
        )
        return math.prod(inside, start=float(self.weight.shape[1]))

    def receptive_field(self) -> ReceptiveField:
        """The dilated kernel and the stride."""
        return ReceptiveField(tuple(map(float, self._span())), tuple(map(float, self.stride)))

    def halo(self) -> tuple[int, int]:
        """The padding at the low end, and the rest of the kernel."""
        return self.low[0], max(0, self._span()[0] - 1 - self.low[0])

    def _fewest(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Minimal padding at the low and the high end of each axis that gives ceil(n / stride) positions."""
        needed = (
            max(0, (-(-n // step) - 1) * step + span - n)
            for n, step, span in zip(self.shape_in[1:], self.stride, self._span(), strict=True)
        )
        total = tuple(needed)
        return tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)

    def _span(self) -> tuple[int, ...]:
        """Extent of the dilated kernel along each axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))


def convolve(
    function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, **geometry: Any
) -> Tensor:
    """`function(x, weight, bias, **geometry)`, a (transposed) convolution of torch, faster in training on the CPU."""
    if x.device.type != "cpu" or is_transformed():
        return function(x, weight, bias, **geometry)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    shape = Geometry.of(weight.ndim - 2, is_transposed=function in _TRANSPOSED, **geometry)
    if shape is not None and pays(x, weight, dtype, shape):
        y = matmul_convolution(x.to(dtype), weight.to(dtype), shape)
        return y if bias is None else y + bias.to(dtype).view(-1, *(1,) * (y.ndim - 2))
    if bias is None or not (torch.is_grad_enabled() and bias.requires_grad):
        return function(x, weight, bias, **geometry)
    # torch sums the bias gradient inside the convolution, slowly: up to a third of the backward pass.
    y = function(x, weight, bias.detach(), **geometry)
    biased: Tensor = _BiasGradient.apply(y, bias)  # type: ignore[no-untyped-call]  # untyped in torch
    return biased


class _BiasGradient(torch.autograd.Function):
    """A convolution as it is, with the gradient of the bias that it already has."""

    @staticmethod
    def forward(_ctx: Any, y: Tensor, _bias: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        return gradient, gradient.sum([0, *range(2, gradient.ndim)])


def ends(
    padding: Padding, kernel: tuple[int, ...], dilation: tuple[int, ...], shape: Shape
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding at the low and the high end of each axis; `same` keeps n positions at stride 1."""
    if padding == "same":
        total = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        return tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
    both = per_axis(padding, shape, "padding")
    return both, both


def meetings(small: int, large: int, kernel: int, stride: int, dilation: int, low: int) -> int:
    """Number of pairs of a kernel position and one of `large` positions, over `small` placements along an axis.

    The other placements fall on padding. A convolution maps large to small, a transposed one small to large.
    """
    total = 0
    for tap in range(kernel):
        offset = tap * dilation - low
        first, last = -(offset // stride) if offset < 0 else 0, (large - 1 - offset) // stride
        total += max(0, min(last, small - 1) - first + 1)
    return total
