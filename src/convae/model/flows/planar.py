"""Planar flow."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.types import Latents, PerImage, Shape
from convae.model.flows.base import INIT_SCALE, Affine, Flow, FlowStep

SOFTPLUS_OF_ONE = math.log(math.e - 1)
"""Where softplus is 1."""
BISECTIONS = 64
"""Halvings of the interval that holds wᵀu: down to the last bit of float64."""


class Planar(Flow):
    """Planar flow, z = u + v tanh(wᵀu + b) (Rezende & Mohamed 2015, arXiv:1505.05770).

    Each step bends the noise along one direction. In the posterior, v, w and b are computed from the encoder's
    features. The density of a latent that was not drawn needs the inverse, found by bisection.

    Args:
        shape: of a latent, without the batch; a map is flattened.
        features: shape of the encoder's features; None without.
        steps: number of planar maps.
    """

    example: ClassVar = {"steps": 2}
    has_parallel_inverse: ClassVar = False

    def __init__(self, shape: Shape, features: Shape | None = None, *, steps: Positive = 8) -> None:
        super().__init__(shape, features)
        self.steps = nn.ModuleList(_PlanarStep(shape, features) for _ in range(steps))
        self.reset()


class _PlanarStep(FlowStep):
    """One planar map."""

    def __init__(self, shape: Shape, features: Shape | None) -> None:
        super().__init__()
        self.size = math.prod(shape)
        self.direction = nn.Parameter(torch.empty(self.size))
        self.normal = nn.Parameter(torch.empty(self.size))
        self.offset = nn.Parameter(torch.empty(1))
        self.features = None if features is None else Affine(2 * self.size + 1, math.prod(features))

    def forward(self, u: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """Bends the noise."""
        rows = u.flatten(1)
        v, w, b, slope = self._map(rows, features)
        bent = torch.tanh((rows * w).sum(1, keepdim=True) + b)
        return (rows + v * bent).view_as(u), _log_det(bent, slope)

    def inverse(self, z: Latents, features: Tensor | None = None) -> tuple[Latents, PerImage]:
        """Finds the noise: along w the map is monotone."""
        rows = z.flatten(1)
        v, w, b, slope = self._map(rows, features)
        target = (rows * w).sum(1, keepdim=True)
        with torch.no_grad():
            low, high = target - slope.abs(), target + slope.abs()
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                is_above = middle + slope * torch.tanh(middle + b) > target
                low, high = torch.where(is_above, low, middle), torch.where(is_above, middle, high)
            root = (low + high) / 2
            steepness = 1 + slope * (1 - torch.tanh(root + b).square())
        # A step of Newton's method, which also has the gradient of the root.
        root = root - (root + slope * torch.tanh(root + b) - target) / steepness
        bent = torch.tanh(root + b)
        return (rows - v * bent).view_as(z), -_log_det(bent, slope)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Close to the identity: small v."""
        self.direction.copy_(torch.randn(self.size, generator=generator) * (INIT_SCALE / math.sqrt(self.size)))
        self.normal.copy_(torch.randn(self.size, generator=generator) / math.sqrt(self.size))
        self.offset.zero_()
        if self.features is not None:
            self.features.reset(INIT_SCALE, generator)

    def _map(self, rows: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The vectors v and w, (batch, value), b and wᵀv, (batch, 1); wᵀv > −1 makes the map invertible."""
        own = torch.cat([self.direction, self.normal, self.offset]).to(rows.dtype)[None].expand(rows.shape[0], -1)
        if self.features is not None and features is not None:
            own = own + self.features(features.flatten(1))
        raw, w, b = own.split([self.size, self.size, 1], 1)
        product = (raw * w).sum(1, keepdim=True)
        # As in the paper's appendix, with the softplus shifted so that v = 0 stays v = 0.
        slope = F.softplus(product + SOFTPLUS_OF_ONE) - 1
        squares = w.square().sum(1, keepdim=True)
        v = raw + (slope - product) * w / (squares + torch.finfo(w.dtype).tiny)
        return v, w, b, slope


def _log_det(bent: Tensor, slope: Tensor) -> PerImage:
    """Log |1 + wᵀv (1 − tanh²)|."""
    return torch.log1p(slope * (1 - bent.square())).sum(1)
