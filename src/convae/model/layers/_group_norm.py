"""Group normalization in channels_last with few channels in each group: faster on CPUs than torch's kernels.

torch's kernels take vectors of the channels of a group: with one to eight of them, the backward pass in bf16 takes 4 to
30 ns per value, as much as all convolutions of an autoencoder together. `benchmarks/speed.md` has the times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHANNELS = 8
"""Most channels of a group for which the backward pass of this module is faster in bf16; in float32 it nowhere is."""
POSITIONS = 1024
"""From here on torch's forward pass is as fast with few channels in a group as with many."""
BLOCK = 1 << 18
"""Values that are computed at once: what fits into the cache of a core in float32, several times."""


def pays(x: Tensor, groups: int, weight: Tensor) -> bool:
    """Whether `group_norm` is faster than torch's, for `x` of shape (batch, channel, *sizes)."""
    if x.device.type != "cpu" or x.dtype != torch.bfloat16 or weight.dtype != torch.float32 or x.ndim != 4:
        return False
    is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return is_last and x.shape[1] // groups <= CHANNELS


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Group normalization of `x`, (batch, channel, height, width) in bf16, with weight and bias in float32."""
    y: Tensor = _GroupNorm.apply(x, weight, bias, groups, eps)  # type: ignore[no-untyped-call]  # untyped in torch
    return y


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels, *sizes = x.shape
        positions = sizes[0] * sizes[1]
        given = x if positions >= POSITIONS else x.contiguous()
        y, mean, scale = torch.native_group_norm(given, weight, bias, batch, channels, positions, groups, eps)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        ctx.groups, ctx.eps = groups, eps
        return y.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight, bias, mean, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # its gradient is wanted
            wanted = [
                each for each, is_needed in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if is_needed
            ]
            y = torch.group_norm(x, ctx.groups, weight, bias, ctx.eps)
            found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
            return (*(next(found) if is_needed else None for is_needed in ctx.needs_input_grad[:3]), None, None)
        to_x = torch.empty_like(x, memory_format=torch.channels_last)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        count = max(1, BLOCK // x[0].numel())
        for part in (slice(start, start + count) for start in range(0, len(x), count)):
            one, other = _backward(gradient[part], x[part], weight, mean[part], scale[part], to_x[part])
            to_weight += one
            to_bias += other
        return to_x, to_weight, to_bias, None, None


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Writes the gradient of some images to `out`; returns those of weight and bias.

    Args:
        gradient: (batch, channel, height, width).
        x: as the gradient.
        weight: (channel,).
        mean: (batch, group).
        scale: (batch, group), the inverse of the standard deviation.
        out: as the gradient.
    """
    batch, channels, height, width = x.shape
    groups = mean.shape[1]
    size = height * width * channels // groups
    values, change, written = (each.permute(0, 2, 3, 1).view(batch, -1, channels) for each in (x, gradient, out))
    values, change = values.float(), change.float()
    scales = scale.repeat_interleave(channels // groups, 1)
    values -= mean.repeat_interleave(channels // groups, 1)[:, None]
    total = change.sum(1)
    product = (change * values).sum(1)
    of_group = (total * weight).view(batch, groups, -1).sum(2) / size
    along = (product * weight).view(batch, groups, -1).sum(2) * scale.pow(3) / size
    shift, slope = ((-each).repeat_interleave(channels // groups, 1) for each in (of_group * scale, along))
    values.mul_(slope[:, None]).addcmul_(change, (scales * weight)[:, None]).add_(shift[:, None])
    written.copy_(values)
    return (product * scales).sum(0), total.sum(0)
