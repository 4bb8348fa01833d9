"""Convolutions of few positions with large weights, as matrix products: several times as fast on CPUs.

Each position is a row with the values below the kernel, and the weight is a matrix. torch's convolutions (oneDNN) order
each weight, and its gradient, in blocks and back, which takes longer than the products if the positions are few, as in
the deep layers of an encoder. `benchmarks/speed.md` has the times of both.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.precision import cpu_has

SMALLEST = 1 << 16
"""Values of a weight below which both take less than the calls themselves."""
ROWS = 1.5
"""Largest number of rows per row of the weight; more cost more to gather than the blocks of the weight."""
ROWS_AMX = 8.0
"""The same for bf16 on processors with matrix units (AMX)."""


@dataclass(frozen=True)
class Geometry:
    """Stride, padding at both ends, dilation, and output padding along each axis, of a (transposed) convolution."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    is_transposed: bool

    @classmethod
    def of(
        cls,
        axes: int,
        *,
        is_transposed: bool,
        stride: Sequence[int] = (),
        padding: Sequence[int] = (),
        dilation: Sequence[int] = (),
        output_padding: Sequence[int] = (),
        groups: int = 1,
    ) -> Geometry | None:
        """The geometry of torch's arguments over a number of axes; None with groups."""
        if groups > 1:
            return None
        ones, zeros = (1,) * axes, (0,) * axes
        return cls(
            tuple(stride or ones),
            tuple(padding or zeros),
            tuple(dilation or ones),
            tuple(output_padding or zeros),
            is_transposed,
        )

    def sizes_out(self, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        """The output sizes."""
        pairs = zip(sizes, kernel, self.stride, self.padding, self.dilation, self.output_padding, strict=True)
        if self.is_transposed:
            return tuple((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in pairs)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in pairs)


def pays(x: Tensor, weight: Tensor, dtype: torch.dtype, geometry: Geometry) -> bool:
    """Whether a convolution by a dense weight, computed in `dtype`, is faster as a matrix product on the CPU."""
    if weight.numel() < SMALLEST or not _has_products(dtype):
        return False
    sizes = x.shape[2:] if geometry.is_transposed else geometry.sizes_out(x.shape[2:], weight.shape[2:])
    limit = ROWS_AMX if dtype == torch.bfloat16 and _has_amx() else ROWS
    return x.shape[0] * math.prod(sizes) <= limit * weight.shape[0]


def matmul_convolution(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The convolution of `x`, (batch, channel, *sizes), by a dense weight of the same type, without a bias."""
    y: Tensor = _MatmulConvolution.apply(x, weight, geometry)  # type: ignore[no-untyped-call]  # untyped in torch
    return y


class _MatmulConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        kernel, sizes = weight.shape[2:], geometry.sizes_out(x.shape[2:], weight.shape[2:])
        if geometry.is_transposed:
            return _scatter(_rows(x) @ _matrix(weight), weight.shape[1], x.shape, kernel, sizes, geometry)
        return _from_rows(_gather(x, kernel, sizes, geometry) @ _matrix(weight).T, x.shape[0], sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        geometry, needed = ctx.geometry, ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # its gradient is wanted
            return (*_backward_of_torch(gradient, x, weight, geometry, needed), None)
        kernel, sizes, to_x, to_weight = weight.shape[2:], gradient.shape[2:], None, None
        if geometry.is_transposed:
            columns = _gather(gradient, kernel, x.shape[2:], geometry)
            if needed[0]:
                to_x = _from_rows(columns @ _matrix(weight).T, x.shape[0], x.shape[2:])
            product = _rows(x).T @ columns if needed[1] else None
        else:
            rows = _rows(gradient)
            if needed[0]:
                to_x = _scatter(rows @ _matrix(weight), x.shape[1], gradient.shape, kernel, x.shape[2:], geometry)
            product = rows.T @ _gather(x, kernel, sizes, geometry) if needed[1] else None
        if product is not None:
            to_weight = product.view(weight.shape[0], *kernel, weight.shape[1]).movedim(-1, 1)
        return to_x, to_weight, None


def _backward_of_torch(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of input and weight by torch's convolution, which has gradients of its own."""
    lists = [list(each) for each in (geometry.stride, geometry.padding, geometry.dilation, geometry.output_padding)]
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, *lists[:3], geometry.is_transposed, lists[3], 1, [*needed, False]
    )
    return to_x, to_weight


def _rows(x: Tensor) -> Tensor:
    """(batch, channel, *sizes) as (batch · positions, channel)."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _from_rows(rows: Tensor, batch: int, sizes: Sequence[int]) -> Tensor:
    """The inverse of `_rows`, in channels_last."""
    return rows.view(batch, *sizes, rows.shape[1]).movedim(-1, 1)


def _matrix(weight: Tensor) -> Tensor:
    """A weight as (first channel, kernel position · second channel); no copy in channels_last."""
    return weight.movedim(1, -1).reshape(weight.shape[0], -1)


def _gather(x: Tensor, kernel: Sequence[int], sizes: Sequence[int], geometry: Geometry) -> Tensor:
    """The values below the kernel at each of `sizes` positions, (batch · positions, kernel position · channel)."""
    parts = zip(x.shape[2:], sizes, kernel, geometry.stride, geometry.padding, geometry.dilation, strict=True)
    # At the high end only as much as the last kernel covers, and without what none does.
    ends = [(p, (out - 1) * s + d * (k - 1) + 1 - p - n) for n, out, k, s, p, d in parts]
    padded = x.movedim(1, -1)
    if any(map(any, ends)):
        padded = F.pad(padded, [0, 0, *(number for pair in reversed(ends) for number in pair)])
    batch, channel = padded.stride(0), padded.stride(-1)
    along = padded.stride()[1:-1]
    steps = [stride * step for stride, step in zip(along, geometry.stride, strict=True)]
    taps = [stride * step for stride, step in zip(along, geometry.dilation, strict=True)]
    windows = padded.as_strided(
        (x.shape[0], *sizes, *kernel, x.shape[1]), (batch, *steps, *taps, channel), padded.storage_offset()
    )
    return windows.reshape(x.shape[0] * math.prod(sizes), -1)


def _scatter(
    columns: Tensor,
    channels: int,
    shape: Sequence[int],
    kernel: Sequence[int],
    sizes: Sequence[int],
    geometry: Geometry,
) -> Tensor:
    """The adjoint of `_gather`: sums columns at `shape[2:]` positions to (batch, channel, *sizes), in float32."""
    batch, positions = shape[0], shape[2:]
    columns = columns.view(batch, *positions, *kernel, channels)
    parts = list(zip(positions, kernel, geometry.stride, geometry.padding, geometry.dilation, sizes, strict=True))
    total = columns.new_zeros(
        batch,
        *(max((n - 1) * s + d * (k - 1) + 1, p + size) for n, k, s, p, d, size in parts),
        channels,
        dtype=torch.promote_types(columns.dtype, torch.float32),
    )
    everywhere: tuple[slice | int, ...] = (slice(None),) * (len(kernel) + 1)
    for tap in itertools.product(*map(range, kernel)):
        place = [slice(t * d, t * d + (n - 1) * s + 1, s) for t, (n, _, s, _, d, _) in zip(tap, parts, strict=True)]
        total[(slice(None), *place)] += columns[(*everywhere, *tap)]
    inner = total[(slice(None), *(slice(p, p + size) for _, _, _, p, _, size in parts))]
    return inner.to(columns.dtype).contiguous().movedim(-1, 1)


@functools.cache
def _has_products(dtype: torch.dtype) -> bool:
    """Whether the processor has matrix products of a type; those of others are emulated."""
    if dtype == torch.bfloat16:
        return cpu_has("avx512_bf16") or _has_amx()
    return dtype in (torch.float32, torch.float64)


@functools.cache
def _has_amx() -> bool:
    return cpu_has("amx_bf16")
