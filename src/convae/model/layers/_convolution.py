"""Convolution and its transpose for training, quicker on the CPU than the library's.

Some of the library's parts are slow there. The gradient of the bias, which it sums up inside the convolution, costs up
to a third of the backward pass: here it is a sum of its own. Without AVX-512, the gradient of the weight runs at a
third of the rate of a matrix product: here it is one, of the patches that each output sees with the outputs' gradients,
for a few images at a time, so that the patches stay in the cache. Nor has the library there, with a stride, a good way
for many channels at few places, deep in an encoder: here outputs and gradients of inputs are then matrix products, too.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.types import Shape
from convae.model.inputs import is_transformed

_PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
PATCH_BYTES = 2 << 20
"""Patches that are laid out at a time: 2 MiB is best, of half of it to 8 MiB, with caches of 512 KiB and 32 MiB."""


DEEP = 2000
"""Weights for each place from which products win in a strided convolution; up to 900 the library did."""


class Geometry(NamedTuple):
    """How a kernel goes over the positions: one number for each spatial axis, but for the last two."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int = 1
    transposed: bool = False


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """(batch, channel, *sizes) to (batch, channels, *other sizes), as the library gives it."""
    trains = torch.is_grad_enabled() and weight.requires_grad
    if trains and x.device.type == "cpu" and x.ndim == 4 and not is_transformed():
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
        y: Tensor = _Convolution.apply(x, weight, bias, geometry)  # type: ignore[no-untyped-call]
        return y
    return _forward(x, weight, bias, geometry)


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """The library's."""
    axes, g = x.ndim - 2, geometry
    if g.transposed:
        return _TRANSPOSED[axes](x, weight, bias, g.stride, g.padding, g.output_padding, g.groups, g.dilation)
    return _PLAIN[axes](x, weight, bias, g.stride, g.padding, g.dilation, g.groups)


class _Convolution(torch.autograd.Function):
    """The library's forward pass, the backward pass in three parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        ctx.deep = _pays(weight, geometry) and _is_deep(x, weight, geometry)
        if not ctx.deep:
            return _forward(x, weight, bias, geometry)
        places = _places(x, weight, geometry)
        y = _spread(x, weight, places, geometry) if geometry.transposed else _gathered(x, weight, places, geometry)
        return y if bias is None else y + bias.view(-1, 1, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        g: Geometry = ctx.geometry
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        # Gradients of gradients are wanted where gradients are enabled here; only the library's own parts have them.
        plain = torch.is_grad_enabled()
        deep = ctx.deep and not plain
        own = for_weight and not plain and _pays(weight, g)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            *(grad, x, weight, None, g.stride, g.padding, g.dilation, g.transposed, g.output_padding, g.groups),
            [for_x and not deep, for_weight and not own, False],
        )
        if for_x and deep:
            sizes = tuple(x.shape[2:])
            grad_x = _gathered(grad, weight, sizes, g) if g.transposed else _spread(grad, weight, sizes, g)
        if own:
            grad_weight = weight_gradient(x, grad, weight, g)
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if for_bias else None, None


@functools.cache
def _slow_library() -> bool:
    """Whether the library's gradient of a weight is slow on this processor."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _pays(weight: Tensor, geometry: Geometry) -> bool:
    """Whether the matrix product is quicker, and can be written as one."""
    plain = geometry.groups == 1 and set(geometry.dilation) == {1} and weight.dtype == torch.float32
    return plain and _slow_library()


def weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The gradient of the weight of a convolution over two axes without dilation and groups.

    Args:
        x: (batch, channel, height, width), what was convolved.
        grad: (batch, channels, *other sizes), the gradient of what came out.
        weight: whose shape the result has.
        geometry: of the convolution.
    """
    kernel = weight.shape[2:]
    if geometry.transposed:
        # The outputs of a transposed convolution are the inputs of a plain one.
        return _patches_times(grad, x, kernel, geometry.stride, geometry.padding).permute(3, 2, 0, 1)
    if geometry.stride == (1, 1) and grad.shape[1] < x.shape[1]:
        # At stride 1 the two can change places, with the kernel reversed: patches of the one with fewer channels.
        around = tuple(k - 1 - p for k, p in zip(kernel, geometry.padding, strict=True))
        if min(around) >= 0:
            return _patches_times(grad, x, kernel, (1, 1), around).flip(0, 1).permute(2, 3, 0, 1)
    return _patches_times(x, grad, kernel, geometry.stride, geometry.padding).permute(3, 2, 0, 1)


def _patches_times(
    large: Tensor, small: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """(*kernel, channel of large, channel of small): the products of each patch with what lies at its place, summed.

    Args:
        large: (batch, channel, height, width), of which patches are taken.
        small: (batch, channel, *as many places as there are patches).
        kernel: size of a patch.
        stride: from one patch to the next.
        padding: zeros in front of `large`; as many behind it as the patches reach.
    """
    batch, channels = large.shape[:2]
    others, *places = small.shape[1:]
    length = kernel[0] * kernel[1] * channels
    images = max(1, min(batch, PATCH_BYTES // (places[0] * places[1] * length * large.element_size())))
    within, patches = _frame(large, images, tuple(places), kernel, stride, padding)
    laid_out = large.new_empty(images, *places, kernel[0], kernel[1] * channels)
    result = large.new_zeros(length, others)
    source, product = large.permute(0, 2, 3, 1)[:, : within.shape[1], : within.shape[2]], small.permute(0, 2, 3, 1)
    for start in range(0, batch, images):
        count = min(images, batch - start)
        within[:count].copy_(source[start : start + count])
        laid_out[:count].copy_(patches[:count])
        result.addmm_(laid_out[:count].view(-1, length).t(), product[start : start + count].reshape(-1, others))
    return result.view(*kernel, channels, others)


def _frame(
    large: Tensor,
    images: int,
    places: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """Room for some images with zeros around them: where they go in, and the patches that they then make.

    Both are views of the same memory: (images, height, width, channel), and (images, *places, rows of the kernel,
    columns of the kernel times channels).
    """
    channels, *sizes = large.shape[1:]
    reach = [(n - 1) * s + k for n, s, k in zip(places, stride, kernel, strict=True)]
    inside = [min(size, end - p) for size, end, p in zip(sizes, reach, padding, strict=True)]
    framed = large.new_zeros(images, *reach, channels)
    within = framed[:, padding[0] : padding[0] + inside[0], padding[1] : padding[1] + inside[1]]
    rows, columns = framed.stride()[1:3]
    patches = framed.as_strided(
        (images, *places, kernel[0], kernel[1] * channels),
        (framed.stride(0), stride[0] * rows, stride[1] * columns, rows, 1),
    )
    return within, patches


def _places(x: Tensor, weight: Tensor, geometry: Geometry) -> Shape:
    """Positions along each axis that come out, without dilation."""
    each = zip(x.shape[2:], weight.shape[2:], geometry.stride, geometry.padding, geometry.output_padding, strict=True)
    if geometry.transposed:
        return tuple((n - 1) * s - 2 * p + k + more for n, k, s, p, more in each)
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p, _ in each)


def _is_deep(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether many weights meet few places."""
    few = x.shape[2:] if geometry.transposed else _places(x, weight, geometry)
    return max(geometry.stride) > 1 and weight.numel() > DEEP * len(x) * math.prod(few)


def _gathered(large: Tensor, weight: Tensor, places: Shape, geometry: Geometry) -> Tensor:
    """(batch, channels, *places): each place sums up its patch of `large`, as a convolution does.

    Args:
        large: (batch, channel, height, width).
        weight: (channels, channel, *kernel).
        places: as many as there are patches along each axis.
        geometry: of the convolution, or of the transposed one of which this is the gradient.
    """
    outputs, _, *kernel = weight.shape
    within, patches = _frame(large, len(large), places, tuple(kernel), geometry.stride, geometry.padding)
    within.copy_(large.permute(0, 2, 3, 1)[:, : within.shape[1], : within.shape[2]])
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, outputs)
    result = patches.reshape(-1, len(matrix)) @ matrix
    return result.view(len(large), *places, outputs).permute(0, 3, 1, 2)


def _spread(small: Tensor, weight: Tensor, sizes: Shape, geometry: Geometry) -> Tensor:
    """(batch, channels, *sizes): each place of `small` adds its values to its patch, as a transposed convolution does.

    Args:
        small: (batch, channel, *places).
        weight: (channel, channels, *kernel).
        sizes: of the result.
        geometry: of the transposed convolution, or of the one of which this is the gradient.
    """
    inputs, outputs, *kernel = weight.shape
    batch, _, *places = small.shape
    matrix = weight.permute(0, 2, 3, 1).reshape(inputs, -1)
    values = (small.permute(0, 2, 3, 1).reshape(-1, inputs) @ matrix).view(batch, *places, *kernel, outputs)
    stride, padding = geometry.stride, geometry.padding
    reach = [(n - 1) * s + k for n, s, k in zip(places, stride, kernel, strict=True)]
    room = [max(end, p + size) for end, p, size in zip(reach, padding, sizes, strict=True)]
    result = small.new_zeros(batch, *room, outputs)
    for row, column in itertools.product(*map(range, kernel)):
        to = result[
            :, row : row + reach[0] - kernel[0] + 1 : stride[0], column : column + reach[1] - kernel[1] + 1 : stride[1]
        ]
        to += values[:, :, :, row, column]
    return result[:, padding[0] : padding[0] + sizes[0], padding[1] : padding[1] + sizes[1]].permute(0, 3, 1, 2)
