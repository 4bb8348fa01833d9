"""Approximate posteriors q(z | x)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from convae.core.noise import Generators, normal_like
from convae.core.types import Latents, PerImage

LOG_TWO_PI = math.log(2 * math.pi)
MIN_LOGVAR = -30.0
"""Smallest log-variance: neither the variance, nor its inverse, nor the square of either leaves float32."""


class Posterior(ABC):
    """Approximate posterior q(z | x) of each image of a batch.

    Attributes:
        mean: (batch, *latent).
        logvar: (batch, *latent), natural logarithm of the variance.
    """

    mean: Latents
    logvar: Latents

    @abstractmethod
    def sample(self, generator: Generators | None = None) -> Latents:
        """One latent drawn for each image, (batch, *latent), differentiable.

        Args:
            generator: draws the noise; torch's default generator without one.
        """

    @abstractmethod
    def kl(self) -> PerImage:
        """KL divergence from the prior, summed over the latent, nats per image."""

    @abstractmethod
    def log_prob(self, z: Latents) -> PerImage:
        """Log q(z | x), nats."""

    def kl_values(self) -> Latents | None:
        """The KL divergence of each latent value, nats; None where it is not a sum over latent values."""
        return None


@dataclass(frozen=True)
class GaussianPosterior(Posterior):
    """Diagonal Gaussian posterior, with the standard normal as the prior.

    Attributes:
        mean: (batch, *latent).
        logvar: (batch, *latent), natural logarithm of the variance.
    """

    mean: Latents
    logvar: Latents

    def sample(self, generator: Generators | None = None) -> Latents:
        """One latent for each image by reparameterization (Kingma & Welling 2013, arXiv:1312.6114)."""
        return self.mean + torch.exp(0.5 * self.logvar) * normal_like(self.mean, generator)

    def kl_values(self) -> Latents:
        """KL divergence of each latent value from the standard normal, nats."""
        # expm1 keeps the digits that exp(v) - 1 - v loses near v = 0.
        return 0.5 * (self.mean.square() + torch.expm1(self.logvar) - self.logvar)

    def kl(self) -> PerImage:
        """KL divergence from the standard normal, summed over the latent, nats per image."""
        return self.kl_values().flatten(1).sum(1)

    def log_prob(self, z: Latents) -> PerImage:
        """Log q(z | x), nats."""
        scaled = (z - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (scaled + self.logvar + LOG_TWO_PI).flatten(1).sum(1)


@dataclass(frozen=True)
class CodePosterior(Posterior):
    """Deterministic posterior over the codes of a codebook, with the uniform distribution over codes as the prior.

    Attributes:
        mean: (batch, *latent), the code vectors.
        codes: (batch, *grid), the code at each place.
        codebook_size: number of codes.
    """

    mean: Latents
    codes: Int64[Tensor, "batch *grid"]  # noqa: UP037
    codebook_size: int

    @property
    def logvar(self) -> Latents:  # type: ignore[override]  # a constant
        """(batch, *latent): no variance."""
        return torch.full_like(self.mean, MIN_LOGVAR)

    def sample(self, generator: Generators | None = None) -> Latents:
        """The code vectors: the posterior has all its mass on one code."""
        return self.mean

    def kl(self) -> PerImage:
        """log(codebook size) for each place, nats per image: the same for all images."""
        return self.mean.new_full((len(self.mean),), math.log(self.codebook_size) * math.prod(self.codes.shape[1:]))

    def log_prob(self, z: Latents) -> PerImage:
        """Logarithm of the probability of each latent, nats: 0 at the code vectors, −∞ elsewhere."""
        equal = (z == self.mean).flatten(1).all(1)
        return torch.where(equal, 0.0, -math.inf).to(self.mean.dtype)
