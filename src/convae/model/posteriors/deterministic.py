"""A posterior without noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from convae.core.noise import Generators
from convae.core.posterior import LOG_TWO_PI, MIN_LOGVAR, Posterior
from convae.core.types import Latents, PerImage


@dataclass(frozen=True)
class DeterministicPosterior(Posterior):
    """All mass on one latent, as in an autoencoder: it has no density, and no finite KL divergence from a prior.

    Attributes:
        mean: (batch, *latent).
    """

    mean: Latents

    @property
    def has_density(self) -> bool:
        """False."""
        return False

    @property
    def logvar(self) -> Latents:  # type: ignore[override]  # a constant
        """(batch, *latent): no variance."""
        return torch.full_like(self.mean, MIN_LOGVAR)

    def sample(self, generator: Generators | None = None) -> Latents:
        """The mean."""
        return self.mean

    def kl(self) -> PerImage:
        """Infinite: a point has no density."""
        return self.mean.new_full((len(self.mean),), math.inf)

    def log_prob(self, z: Latents) -> PerImage:
        """Infinite at the mean, −∞ elsewhere."""
        equal = (z == self.mean).flatten(1).all(1)
        return torch.where(equal, math.inf, -math.inf).to(self.mean.dtype)

    def log_prior(self, z: Latents) -> PerImage:
        """Log density of N(0, I), nats."""
        return -0.5 * (z.square() + LOG_TWO_PI).flatten(1).sum(1)
