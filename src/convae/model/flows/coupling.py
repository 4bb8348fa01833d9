"""Affine coupling flow."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.types import Latents, PerImage, Shape
from convae.model.flows.base import Affine, ConditionedStep, Flow, bounded_log_scale


class Coupling(Flow):
    """Affine coupling layers (RealNVP; Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803).

    Each step scales and shifts one half of the values by a network of the other half; both directions take one pass.
    For vectors the network is linear layers, for maps convolutions of 3 values. The halves change from step to step, so
    that each two values are in different halves at some step: by a bit of the channel's number, and on maps in a
    checkerboard.

    Args:
        shape: of a latent, without the batch.
        features: shape of the encoder's features, with the sizes of the latent; None without.
        steps: number of coupling layers.
        hidden: channels of the networks.
    """

    example: ClassVar = {"steps": 2, "hidden": 8}

    def __init__(
        self, shape: Shape, features: Shape | None = None, *, steps: Positive = 6, hidden: Positive = 128
    ) -> None:
        super().__init__(shape, features)
        self.steps = nn.ModuleList(_CouplingStep(shape, features, number, hidden) for number in range(steps))
        self.reset()


class _CouplingStep(ConditionedStep):
    """One coupling layer: `number` selects the halves."""

    def __init__(self, shape: Shape, features: Shape | None, number: int, hidden: int) -> None:
        super().__init__()
        self.number = number
        kernel, center = (3,) * (len(shape) - 1), (1,) * (len(shape) - 1)
        self.first = Affine(hidden, shape[0], kernel)
        self.second = Affine(hidden, hidden, center)
        self.last = Affine(2 * shape[0], hidden, kernel)
        self.features = None if features is None else Affine(hidden, features[0], center)

    def forward(self, u: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """Scales, then shifts."""
        shift, log_scale = self._map(u, features)
        return u * torch.exp(log_scale) + shift, log_scale.flatten(1).sum(1)

    def inverse(self, z: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """Shifts back, then scales."""
        shift, log_scale = self._map(z, features)
        return (z - shift) * torch.exp(-log_scale), -log_scale.flatten(1).sum(1)

    def _map(self, x: Latents, features: Tensor | None) -> tuple[Latents, Latents]:
        """Shift and log-scale: 0 for the values that they are computed from."""
        kept = self._kept(x)
        hidden = self.first(x * kept)
        if self.features is not None:
            hidden = hidden + self.features(features)
        shift, raw = self.last(F.silu(self.second(F.silu(hidden)))).chunk(2, 1)
        return shift * (1 - kept), bounded_log_scale(raw) * (1 - kept)

    def _kept(self, x: Latents) -> Tensor:
        """(channel, *sizes): 1 for the values that stay, 0 for those that change."""
        channels = x.shape[1]
        bits = max(1, (channels - 1).bit_length())
        position = torch.arange(channels, device=x.device) >> (self.number // 2 % bits)
        for size in x.shape[2:]:
            position = position[..., None] + torch.arange(size, device=x.device)
        return ((position + self.number) % 2).to(x.dtype)
