"""Deterministic posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from convae.core.posterior import LOG_TWO_PI, PointPosterior
from convae.core.types import Latents, PerImage


@dataclass(frozen=True)
class DeterministicPosterior(PointPosterior):
    """Posterior of an autoencoder, with all its mass on one latent: no density, and an infinite KL divergence.

    Attributes:
        mean: (batch, *latent).
    """

    log_prob_of_mean: ClassVar[float] = math.inf
    mean: Latents

    @property
    def has_density(self) -> bool:
        """False."""
        return False

    def kl(self) -> PerImage:
        """Infinite."""
        return self.mean.new_full((len(self.mean),), math.inf)

    def log_prior(self, z: Latents) -> PerImage:
        """Log density of N(0, I), nats."""
        return -0.5 * (z.square() + LOG_TWO_PI).flatten(1).sum(1)
