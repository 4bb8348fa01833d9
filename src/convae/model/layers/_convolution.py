"""Convolution and its transpose, with gradients that are quicker on the CPU than the library's.

Two parts of the library's backward pass are slow there. The gradient of the bias, which it sums up inside the
convolution, costs up to a third of it: here it is a sum of its own. The gradient of the weight runs, without AVX-512,
at a third of the rate of a matrix product: here it is one, of the patches that each output sees with the outputs'
gradients, for a few images at a time, so that the patches stay in the cache.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_PLAIN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
PATCH_BYTES = 2 << 20
"""Patches that are laid out at a time: 2 MiB is best, of half of it to 8 MiB, with caches of 512 KiB and 32 MiB."""


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
    if trains and x.device.type == "cpu" and x.ndim == 4:
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
        return _forward(x, weight, bias, geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        g: Geometry = ctx.geometry
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        own = for_weight and _pays(weight, g)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            *(grad, x, weight, None, g.stride, g.padding, g.dilation, g.transposed, g.output_padding, g.groups),
            [for_x, for_weight and not own, False],
        )
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
    batch, channels, *sizes = large.shape
    others, *places = small.shape[1:]
    reach = [(n - 1) * s + k for n, s, k in zip(places, stride, kernel, strict=True)]
    inside = [min(size, end - p) for size, end, p in zip(sizes, reach, padding, strict=True)]
    length = kernel[0] * kernel[1] * channels
    images = max(1, min(batch, PATCH_BYTES // (places[0] * places[1] * length * large.element_size())))
    framed = large.new_zeros(images, *reach, channels)
    within = framed[:, padding[0] : padding[0] + inside[0], padding[1] : padding[1] + inside[1]]
    rows, columns = framed.stride()[1:3]
    patches = framed.as_strided(
        (images, *places, kernel[0], kernel[1] * channels),
        (framed.stride(0), stride[0] * rows, stride[1] * columns, rows, 1),
    )
    laid_out = large.new_empty(images, *places, kernel[0], kernel[1] * channels)
    result = large.new_zeros(length, others)
    source, product = large.permute(0, 2, 3, 1)[:, : inside[0], : inside[1]], small.permute(0, 2, 3, 1)
    for start in range(0, batch, images):
        count = min(images, batch - start)
        within[:count].copy_(source[start : start + count])
        laid_out[:count].copy_(patches[:count])
        result.addmm_(laid_out[:count].view(-1, length).t(), product[start : start + count].reshape(-1, others))
    return result.view(*kernel, channels, others)
