"""Approximate posteriors q(z | x)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

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

    @abstractmethod
    def log_prior(self, z: Latents) -> PerImage:
        """Log p(z) under the prior that `kl` is measured from, nats."""

    @property
    def is_discrete(self) -> bool:
        """Whether the latents are codes, whose KL divergence from the prior is the same for all images."""
        return False

    @property
    def is_spherical(self) -> bool:
        """Whether latents are unit vectors."""
        return False

    @property
    def has_closed_kl(self) -> bool:
        """Whether `kl` is the KL divergence itself, and not an estimate with drawn latents."""
        return True

    @property
    def has_density(self) -> bool:
        """Whether it spreads its mass, so that log q(z | x) and the KL divergence are finite."""
        return True

    @property
    def is_density_of_noise(self) -> bool:
        """Whether `log_prob` of drawn latents is computed from their noise, so that it has no gradient for them."""
        return False

    def kl_values(self) -> Latents | None:
        """The KL divergence of each latent value, nats; None where it is not a sum over latent values."""
        return None


@dataclass(frozen=True)
class GaussianPosterior(Posterior):
    """Diagonal Gaussian posterior, with a diagonal Gaussian prior: the standard normal unless another is given.

    Attributes:
        mean: (batch, *latent).
        logvar: (batch, *latent), natural logarithm of the variance.
        prior_mean: (batch, *latent), mean of the prior; None for 0.
        prior_logvar: (batch, *latent), logarithm of the prior's variance; None for 0.
    """

    mean: Latents
    logvar: Latents
    prior_mean: Latents | None = None
    prior_logvar: Latents | None = None

    def from_noise(self, noise: Tensor) -> Latents:
        """Latents of standard normal noise, (batch, *latent)."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def sample(self, generator: Generators | None = None) -> Latents:
        """One latent for each image by reparameterization (Kingma & Welling 2013, arXiv:1312.6114)."""
        return self.from_noise(normal_like(self.mean, generator))

    def kl_values(self) -> Latents:
        """KL divergence of each latent value from the prior, nats."""
        # expm1 keeps the digits that exp(v) - 1 - v loses near v = 0.
        if self.prior_mean is None or self.prior_logvar is None:
            return 0.5 * (self.mean.square() + torch.expm1(self.logvar) - self.logvar)
        ratio = self.logvar - self.prior_logvar
        distance = (self.mean - self.prior_mean).square() * torch.exp(-self.prior_logvar)
        return 0.5 * (distance + torch.expm1(ratio) - ratio)

    def kl(self) -> PerImage:
        """KL divergence from the prior, summed over the latent, nats per image."""
        return self.kl_values().flatten(1).sum(1)

    def log_prob(self, z: Latents) -> PerImage:
        """Log q(z | x), nats."""
        return gaussian_log_prob(z, self.mean, self.logvar)

    def log_prior(self, z: Latents) -> PerImage:
        """Log p(z), nats."""
        if self.prior_mean is None or self.prior_logvar is None:
            return gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z))
        return gaussian_log_prob(z, self.prior_mean, self.prior_logvar)


def gaussian_log_prob(z: Latents, mean: Latents, logvar: Latents) -> PerImage:
    """Log density of a diagonal Gaussian, summed over the latent, nats."""
    scaled = (z - mean).square() * torch.exp(-logvar)
    return -0.5 * (scaled + logvar + LOG_TWO_PI).flatten(1).sum(1)


@dataclass(frozen=True)
class EstimatedPosterior(Posterior):
    """A posterior with a prior to which its KL divergence has no closed form, such as a mixture.

    The divergence is estimated with one latent, log q(z | x) − log p(z): unbiased if drawn from the posterior.

    Attributes:
        own: q(z | x).
        latent: (batch, *latent), the latent of the estimate.
        prior: log p(z) of latents, (batch,) nats.
    """

    own: Posterior
    latent: Latents
    prior: Callable[[Latents], PerImage] = field(repr=False)

    @property
    def mean(self) -> Latents:  # type: ignore[override]  # of the posterior
        """(batch, *latent)."""
        return self.own.mean

    @property
    def logvar(self) -> Latents:  # type: ignore[override]  # of the posterior
        """(batch, *latent), natural logarithm of the variance."""
        return self.own.logvar

    @property
    def is_density_of_noise(self) -> bool:
        """Whether it is for the posterior."""
        return self.own.is_density_of_noise

    @property
    def is_spherical(self) -> bool:
        """Whether those of the posterior are."""
        return self.own.is_spherical

    @property
    def has_closed_kl(self) -> bool:
        """False."""
        return False

    def sample(self, generator: Generators | None = None) -> Latents:
        """One latent drawn for each image, (batch, *latent), differentiable."""
        return self.own.sample(generator)

    def kl(self) -> PerImage:
        """The estimate of the KL divergence from the prior, nats per image; single values may be negative."""
        return self.own.log_prob(self.latent) - self.prior(self.latent)

    def log_prob(self, z: Latents) -> PerImage:
        """Log q(z | x), nats."""
        return self.own.log_prob(z)

    def log_prior(self, z: Latents) -> PerImage:
        """Log p(z), nats."""
        return self.prior(z)


def without_prior(posterior: Posterior) -> Posterior:
    """The posterior itself, where its KL divergence from another prior is estimated."""
    return posterior.own if isinstance(posterior, EstimatedPosterior) else posterior


class PointPosterior(Posterior):
    """Posterior with all its mass on the mean.

    Attributes:
        mean: (batch, *latent).
        log_prob_of_mean: nats: 0 for a discrete latent, infinity for a continuous one.
    """

    log_prob_of_mean: ClassVar[float]

    @property
    def logvar(self) -> Latents:  # type: ignore[override]  # a constant
        """(batch, *latent), of the smallest value."""
        return torch.full_like(self.mean, MIN_LOGVAR)

    def sample(self, generator: Generators | None = None) -> Latents:  # there is no noise
        """The mean."""
        return self.mean

    def log_prob(self, z: Latents) -> PerImage:
        """Log q(z | x), nats: `log_prob_of_mean` at the mean, −∞ elsewhere."""
        is_mean = (z == self.mean).flatten(1).all(1)
        return torch.where(is_mean, self.log_prob_of_mean, -math.inf).to(self.mean.dtype)


@dataclass(frozen=True)
class CodePosterior(PointPosterior):
    """Deterministic posterior over codes, with the uniform distribution over codes as the prior unless one is given.

    Attributes:
        mean: (batch, *latent), the code vectors.
        codes: the code at each position: (batch, *grid) with one codebook, (batch, level, *grid) with several.
        codebook_sizes: number of codes of each level.
        prior: log p of codes, (batch, *grid) or (batch, level, *grid), as (batch,) nats; None for the uniform prior.
    """

    log_prob_of_mean: ClassVar[float] = 0.0
    mean: Latents
    codes: Int64[Tensor, "batch *places"]  # noqa: UP037
    codebook_sizes: tuple[int, ...]
    prior: Callable[[Tensor], PerImage] | None = field(default=None, repr=False)

    @property
    def codes_by_level(self) -> Int64[Tensor, "batch level place"]:
        """The codes of each level, with the positions in a row."""
        places = math.prod(self.codes.shape[1:]) // len(self.codebook_sizes)
        return self.codes.reshape(len(self.codes), len(self.codebook_sizes), places)

    @property
    def is_discrete(self) -> bool:
        """True."""
        return True

    def kl(self) -> PerImage:
        """−log p(codes), nats per image: for the uniform prior log(codebook size), summed over levels and positions."""
        if self.prior is not None:
            return self.prior(self.codes).neg().to(self.mean.dtype)
        nats = sum(math.log(size) for size in self.codebook_sizes) * self.codes_by_level.shape[2]
        return self.mean.new_full((len(self.mean),), nats)

    def log_prior(self, z: Latents) -> PerImage:
        """Log p of the codes, nats."""
        return -self.kl()
