"""A posterior with a normalizing flow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from convae.core.noise import Generators, normal_like
from convae.core.posterior import LOG_TWO_PI, GaussianPosterior, Posterior
from convae.core.random import numpy_generator
from convae.core.types import Latents, PerImage
from convae.model.flows.base import Flow
from convae.model.posteriors.full_gaussian import FullGaussianPosterior

VARIANCE_DRAWS = 32
"""Latents from which the variance is estimated."""
VALUES_AT_ONCE = 1 << 16
"""Features of an image for which several of these latents are computed at once: all of them where it has few."""


@dataclass(frozen=True)
class FlowPosterior(Posterior):
    """A Gaussian whose latents go through a normalizing flow (Rezende & Mohamed 2015, arXiv:1505.05770).

    log q(z | x) = log N(u; μ, Σ) − log |det ∂z/∂u|. For latents that it drew, u is known; for others it is found by
    inverting the flow.

    Attributes:
        base: the Gaussian of u.
        flow: u to z.
        features: (batch, *features), of the encoder, which the flow depends on.
    """

    base: GaussianPosterior | FullGaussianPosterior
    flow: Flow = field(repr=False)
    features: Tensor = field(repr=False)
    _drawn: list[tuple[Latents, PerImage]] = field(default_factory=list, repr=False)

    @property
    def has_closed_kl(self) -> bool:
        """False."""
        return False

    @property
    def is_density_of_noise(self) -> bool:
        """True."""
        return True

    @cached_property
    def mean(self) -> Latents:  # type: ignore[override]  # of the base
        """The image of the mean of the Gaussian, (batch, *latent); the expectation has no closed form."""
        return self._push(self.base.mean)

    @cached_property
    def logvar(self) -> Latents:  # type: ignore[override]  # of draws
        """(batch, *latent), natural logarithm of the variance, estimated with 32 draws that are always the same."""
        # Made by numpy, so that it is a constant of an exported graph.
        values = numpy_generator(0, "variance").standard_normal((VARIANCE_DRAWS, *self.base.mean.shape[1:]))
        noise = torch.tensor(values.tolist(), dtype=self.base.mean.dtype, device=self.base.mean.device)
        at_once = max(1, VALUES_AT_ONCE // math.prod(self.features.shape[1:]))
        return torch.cat([self._draws(part) for part in noise.split(at_once)]).var(0).log()

    def sample(self, generator: Generators | None = None) -> Latents:
        """One latent for each image, (batch, *latent), differentiable."""
        return self._push(self.base.from_noise(normal_like(self.base.mean, generator)))

    def kl(self) -> PerImage:
        """The KL divergence from N(0, I) estimated with the latent that was drawn last, or the mean, nats per image."""
        z = self._drawn[-1][0] if self._drawn else self.mean
        return self.log_prob(z) - self.log_prior(z)

    def log_prob(self, z: Latents) -> PerImage:
        """Log q(z | x), nats; of latents that it drew, differentiable with respect to their noise and parameters."""
        for drawn, density in self._drawn:
            if drawn is z:
                return density
        u, log_det = self.flow.inverse(z, self.features)
        return self.base.log_prob(u) + log_det

    def log_prior(self, z: Latents) -> PerImage:
        """Log density of N(0, I), nats."""
        return -0.5 * (z.square() + LOG_TWO_PI).flatten(1).sum(1)

    def _draws(self, noise: Tensor) -> Tensor:
        """Latents, (draw, batch, *latent), of noise that all images share, (draw, *latent)."""
        u = torch.stack([self.base.from_noise(own[None]) for own in noise])
        features = self.features.repeat(noise.shape[0], *(1,) * (self.features.ndim - 1))
        z = self.flow(u.flatten(0, 1), features)[0]
        return torch.unflatten(z, 0, (noise.shape[0], -1))

    def _push(self, u: Latents) -> Latents:
        """The latents of u, remembered with their density."""
        z: Latents
        z, log_det = self.flow(u, self.features)
        self._drawn.append((z, self.base.log_prob(u) - log_det))
        return z
