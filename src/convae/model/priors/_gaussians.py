"""Gaussians with full or diagonal covariances, fitted to the latents of a trained model."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.noise import Generators, normal_like
from convae.core.posterior import LOG_TWO_PI
from convae.core.precision import at_least_float32
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck
from convae.model.priors._labels import class_indices
from convae.model.priors._mixture import draw_components
from convae.model.priors.base import Prior

Covariance = Literal["full", "diagonal"]
Matrix = NDArray[np.float64]
LARGEST_FULL = 256
"""Latent values beyond which covariances are diagonal by default."""
LEAST_VARIANCE = 1e-6
"""Added to variances, relative to the mean variance of a latent value."""


class FittedGaussians(Prior):
    """A mixture of Gaussians over flattened latents.

    Args:
        bottleneck: of the model, with a continuous latent.
        count: number of Gaussians.
        covariance: whether each has a full covariance matrix or a diagonal one.

    Raises:
        ConfigError: the latents are codes.
    """

    is_fitted_after: ClassVar = True
    is_fitted_at_once: ClassVar = True

    def __init__(self, bottleneck: Bottleneck, count: int, covariance: Covariance | None) -> None:
        super().__init__(bottleneck)
        if bottleneck.is_discrete:
            raise ConfigError("Gaussians need a continuous latent. Use the prior transformer for codes")
        size = math.prod(self.latent_shape)
        self.is_full = covariance == "full"
        self.mean = nn.Parameter(torch.empty(count, size))
        self.root = nn.Parameter(torch.empty(count, size, size) if self.is_full else torch.empty(count, size))
        self.logits = nn.Parameter(torch.empty(count))
        self.reset()

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Standard normal Gaussians of equal weight."""
        size = self.mean.shape[1]
        self.mean.zero_()
        self.root.copy_(torch.eye(size) if self.is_full else torch.ones(size))
        self.logits.zero_()

    def component_log_prob(self, z: Latents) -> Tensor:
        """Log density of latents under each Gaussian, (batch, component), nats, in float64 (float32 on MPS)."""
        dtype = torch.float32 if z.device.type == "mps" else torch.float64
        points, mean, root = z.flatten(1).to(dtype), self.mean.to(dtype), self.root.to(dtype)
        difference = points[None] - mean[:, None]
        if self.is_full:
            scaled = torch.linalg.solve_triangular(root, difference.transpose(1, 2), upper=False).transpose(1, 2)
            diagonal = root.diagonal(dim1=1, dim2=2)
        else:
            scaled, diagonal = difference / root[:, None], root
        squares = scaled.square().sum(2) + mean.shape[1] * LOG_TWO_PI
        found: Tensor = -0.5 * squares - diagonal.log().sum(1)[:, None]
        return found.T

    def log_prob(self, z: Latents) -> PerImage:
        """Log p(z), nats."""
        each = self.component_log_prob(z)
        found = torch.logsumexp(each + torch.log_softmax(self.logits.to(each.dtype), 0), 1)
        return found.to(at_least_float32(z).dtype)

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latents:
        """Latents, (count, *latent), as in `Prior.sample`: of the labels, or of a component by its weight."""
        normal = normal_like(self.mean.new_empty(count, 1 + self.mean.shape[1]), noise)
        components = class_indices(labels if self.classes else None, count, len(self.mean), self.mean.device)
        chosen = torch.where(components == len(self.mean), draw_components(self.logits, normal[:, 0]), components)
        root = self.root[chosen]
        step = torch.einsum("nij,nj->ni", root, normal[:, 1:]) if self.is_full else root * normal[:, 1:]
        return (self.mean[chosen] + temperature * step).view(count, *self.latent_shape)


def shrink(covariance: Matrix, points: Matrix) -> Matrix:
    """A covariance matrix moved towards a multiple of the identity, by the fraction of Ledoit & Wolf (2004).

    The fraction minimizes the expected squared error: it is small for many points, and large for few of them in many
    dimensions, whose sample covariance has too small and too large eigenvalues.

    Args:
        covariance: (value, value).
        points: (image, value), from which it was estimated; with fewer than two, only the identity is left.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    fraction = float(ledoit_wolf_shrinkage(points)) if len(points) > 1 else 1.0
    identity = np.eye(len(covariance)) * (np.trace(covariance) / len(covariance))
    found: Matrix = (1 - fraction) * covariance + fraction * identity
    return found


def choose_covariance(size: int, fewest: int) -> Covariance:
    """Full covariances where they can be estimated, otherwise diagonal ones.

    Args:
        size: number of latent values.
        fewest: latents of the smallest group that a Gaussian is fitted to.
    """
    return "full" if size <= min(LARGEST_FULL, fewest // 2) else "diagonal"
