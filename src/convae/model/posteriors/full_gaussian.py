"""A Gaussian posterior with correlated values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.noise import Generators, normal_like
from convae.core.posterior import LOG_TWO_PI, Posterior
from convae.core.types import PerImage

Vectors = Float[Tensor, "batch value"]


@dataclass(frozen=True)
class FullGaussianPosterior(Posterior):
    """Gaussian posterior with a full covariance Σ = L Lᵀ, and the standard normal prior.

    Attributes:
        mean: (batch, value).
        root: (batch, value, value), the Cholesky factor L: lower triangular, with a positive diagonal.
    """

    mean: Vectors
    root: Float[Tensor, "batch value value"]

    @property
    def logvar(self) -> Vectors:  # type: ignore[override]  # of the covariance
        """(batch, value), natural logarithm of the variance of each value by itself."""
        return self.root.square().sum(2).log()

    def from_noise(self, noise: Tensor) -> Vectors:
        """Latents of standard normal noise, (batch, value)."""
        z: Vectors = self.mean + (self.root * noise[:, None]).sum(2)
        return z

    def sample(self, generator: Generators | None = None) -> Vectors:
        """One latent for each image by reparameterization (Kingma & Welling 2019, arXiv:1906.02691, section 2.5.1)."""
        return self.from_noise(normal_like(self.mean, generator))

    def kl(self) -> PerImage:
        """KL divergence from N(0, I), nats per image."""
        # (trace Σ + μᵀμ − D − log |Σ|) / 2; expm1 keeps the digits near unit variance.
        log_diagonal = self.root.diagonal(dim1=1, dim2=2).log()
        beside = self.root.tril(-1).square().flatten(1).sum(1)
        return 0.5 * (beside + (self.mean.square() + torch.expm1(2 * log_diagonal) - 2 * log_diagonal).sum(1))

    def log_prob(self, z: Vectors) -> PerImage:
        """Log q(z | x), nats."""
        scaled = torch.linalg.solve_triangular(self.root, (z - self.mean)[..., None], upper=False)[..., 0]
        log_diagonal = self.root.diagonal(dim1=1, dim2=2).log()
        density: PerImage = -(0.5 * (scaled.square() + LOG_TWO_PI) + log_diagonal).sum(1)
        return density

    def log_prior(self, z: Vectors) -> PerImage:
        """Log density of N(0, I), nats."""
        return -0.5 * (z.square() + LOG_TWO_PI).sum(1)
