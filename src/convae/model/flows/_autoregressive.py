"""Affine autoregressive steps: each value is scaled and shifted by a network of the values before it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.types import Latents, PerImage, Shape
from convae.model.flows.base import Affine, ConditionedStep, bounded_log_scale

Map = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(batch, value) to the shift and the log-scale of each value."""


class AutoregressiveStep(ConditionedStep):
    """Masked autoregressive network (MADE; Germain et al. 2015, arXiv:1502.03509) and the affine map by it.

    Args:
        shape: of a latent, without the batch; a map is flattened.
        features: shape of the features that the network depends on; None without.
        hidden: width of its two hidden layers.
        is_reversed: whether the order is from the last value to the first.
        maps_noise: whether the network takes the noise, as in an inverse autoregressive flow, or the latents.
    """

    def __init__(
        self, shape: Shape, features: Shape | None, hidden: int, *, is_reversed: bool, maps_noise: bool
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.is_reversed = is_reversed
        self.maps_noise = maps_noise
        self.first = Affine(hidden, size)
        self.second = Affine(hidden, hidden)
        self.last = Affine(2 * size, hidden)
        self.features = None if features is None else Affine(hidden, math.prod(features))

    def forward(self, u: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """Latents: u · exp(log-scale) + shift."""
        rows, network = u.flatten(1), self._network(u, features)
        if self.maps_noise:
            shift, log_scale = network(rows)
            z = rows * torch.exp(log_scale) + shift
        else:
            z = rows
            for at in self._one_by_one(rows):
                shift, log_scale = network(z)
                z = torch.where(at, rows * torch.exp(log_scale) + shift, z)
            _, log_scale = network(z)
        return z.view_as(u), log_scale.sum(1)

    def inverse(self, z: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """Noise: (z − shift) · exp(−log-scale)."""
        rows, network = z.flatten(1), self._network(z, features)
        if self.maps_noise:
            u = rows
            for at in self._one_by_one(rows):
                shift, log_scale = network(u)
                u = torch.where(at, (rows - shift) * torch.exp(-log_scale), u)
            _, log_scale = network(u)
        else:
            shift, log_scale = network(rows)
            u = (rows - shift) * torch.exp(-log_scale)
        return u.view_as(z), -log_scale.sum(1)

    def _one_by_one(self, rows: Tensor) -> list[Tensor]:
        """(value,) masks of one value each, in the order of the network."""
        each = list(torch.eye(rows.shape[1], dtype=torch.bool, device=rows.device))
        return each[::-1] if self.is_reversed else each

    def _network(self, x: Latents, features: Tensor | None) -> Map:
        """The masked network of the values before each, for these features."""
        size, hidden = self.first.weight.shape[1], self.first.weight.shape[0]
        order = torch.arange(1, size + 1, device=x.device)
        order = order.flip(0) if self.is_reversed else order
        # A hidden unit of degree n sees the first n values; those of degree 0 see features only.
        least = 1 if self.features is None and size > 1 else 0
        degree = torch.arange(hidden, device=x.device) % (size - least) + least
        masks = [
            (degree[:, None] >= order).to(x.dtype),
            (degree[:, None] >= degree).to(x.dtype),
            (order[:, None] > degree).to(x.dtype).repeat(2, 1),
        ]
        known = 0.0 if self.features is None or features is None else self.features(features.flatten(1))

        def compute(rows: Tensor) -> tuple[Tensor, Tensor]:
            first = F.silu(self.first(rows, masks[0]) + known)
            shift, raw = self.last(F.silu(self.second(first, masks[1])), masks[2]).chunk(2, 1)
            return shift, bounded_log_scale(raw)

        return compute
