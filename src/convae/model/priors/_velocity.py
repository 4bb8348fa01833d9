"""The network of flow matching: residual blocks on vectors or maps, with time and class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.types import Shape
from convae.model.priors._attention import Block

GROUPS, GROUP_VALUES = 8, 16
"""Largest number of groups of a group norm, and least number of values of a group, unless there is only one group."""
FREQUENCIES = 32
"""Number of sines and cosines of the time."""
HIGHEST = 1000.0
"""Highest angular frequency of the time, from 0 to 1."""


class VelocityNet(nn.Module):
    """Velocity of latents at a time, given a class: residual blocks around one of attention over all positions.

    Args:
        shape: (channels, *grid) of the latents, with up to three axes.
        width: number of channels inside.
        blocks: number of residual blocks; half of them come before the attention.
        classes: number of classes; index `classes` stands for any.
    """

    def __init__(self, shape: Shape, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        axes = len(shape) - 1
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.labels = nn.Parameter(torch.empty(classes + 1, width))
        self.first = _convolution(axes, shape[0], width)
        # A group of few values would lose them: one of one value is always 0.
        groups = math.gcd(GROUPS, width, max(1, width * math.prod(shape[1:]) // GROUP_VALUES))
        self.before = nn.ModuleList([_Residual(axes, width, groups) for _ in range(blocks - blocks // 2)])
        self.attention = Block(width, math.gcd(width, 4), 0.0, is_causal=False) if axes else None
        self.after = nn.ModuleList([_Residual(axes, width, groups) for _ in range(blocks // 2)])
        self.norm = nn.GroupNorm(groups, width)
        self.last = _convolution(axes, width, shape[0])

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes weights by fan-in, biases and the last layer with 0, norms with the identity."""
        for name, parameter in self.named_parameters():
            if name.startswith("last.") or (parameter.ndim == 1 and not ("norm" in name and name.endswith("weight"))):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1)
            else:
                fan_in = math.prod(parameter.shape[1:])
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan_in))

    def forward(self, x: Tensor, time: Tensor, classes: Tensor) -> Tensor:
        """(batch, channel, *grid) at times (batch,) from 0 to 1, given class indices (batch,), to the same shape."""
        rates = torch.linspace(0, math.log(HIGHEST), FREQUENCIES, device=x.device).exp()
        angles = time[:, None].to(x.dtype) * rates.to(x.dtype)
        condition = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + F.embedding(classes, self.labels)
        condition = F.silu(condition)
        hidden = self.first(x)
        for block in self.before:
            hidden = block(hidden, condition)
        if self.attention is not None:
            places = self.attention(hidden.flatten(2).transpose(1, 2))
            hidden = places.transpose(1, 2).reshape(hidden.shape)
        for block in self.after:
            hidden = block(hidden, condition)
        velocity: Tensor = self.last(F.silu(self.norm(hidden)))
        return velocity


class _Residual(nn.Module):
    """Two convolutions with norms, the second scaled and shifted by the condition (Dhariwal & Nichol 2021)."""

    def __init__(self, axes: int, width: int, groups: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = (nn.GroupNorm(groups, width) for _ in range(2))
        self.first, self.second = _convolution(axes, width, width), _convolution(axes, width, width)
        self.condition = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(batch, channel, *grid) and the condition, (batch, channel), to the same shape."""
        hidden = self.first(F.silu(self.norm_1(x)))
        scale, shift = self.condition(condition).view(*condition.shape, 2, *(1,) * (x.ndim - 2)).unbind(2)
        hidden = self.norm_2(hidden) * (1 + scale) + shift
        result: Tensor = x + self.second(F.silu(hidden))
        return result


def _convolution(axes: int, channels_in: int, channels_out: int) -> nn.Module:
    """A 3×3 convolution for maps, of any number of axes, or a linear layer for vectors."""
    if not axes:
        return nn.Linear(channels_in, channels_out)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    return kind(channels_in, channels_out, 3, padding=1)
