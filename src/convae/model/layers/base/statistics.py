"""Statistics of the entire image from one pass over its slices."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convae.core.precision import at_least_float32
from convae.model.layers.base.feature_map import FeatureMap


def group_statistics(x: FeatureMap, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance, (batch, group) each, over positions and the channels of each group.

    The means and squared deviations of the slices are merged in float64, as in Chan et al. 1983
    (doi:10.1080/00031305.1983.10483115).
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for part in x.slices():
        values = at_least_float32(part.reshape(part.shape[0], groups, -1))
        number = values.shape[2]
        variance, own = (each.to("cpu", torch.float64) for each in torch.var_mean(values, 2, correction=0))
        change = own - mean
        mean = mean + change * (number / (count + number))
        squares = squares + variance * number + change.square() * (count * number / (count + number))
        count += number
    return mean, squares / count


def normalization(x: FeatureMap, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Callable[[Tensor], Tensor]:
    """Group normalization of rows of `x` by the statistics of the entire map.

    Args:
        x: the map.
        groups: number of groups.
        weight: (channel,).
        bias: (channel,).
        eps: added to the variance.
    """
    mean, variance = (each.repeat_interleave(x.shape[1] // groups, 1) for each in group_statistics(x, groups))
    scale = torch.rsqrt(variance + eps) * weight.to("cpu", torch.float64)
    shift = bias.to("cpu", torch.float64) - mean * scale

    def normalize(part: Tensor) -> Tensor:
        kind = at_least_float32(part).dtype
        factor, offset = (
            each.to(part.device, kind).view(*each.shape, *(1,) * (part.ndim - 2)) for each in (scale, shift)
        )
        return torch.addcmul(offset, part.to(kind), factor).to(part.dtype)

    return normalize
