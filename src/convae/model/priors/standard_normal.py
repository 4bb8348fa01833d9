"""The standard normal prior."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.noise import Generators, normal_like
from convae.core.posterior import LOG_TWO_PI, Posterior
from convae.core.types import Latents, PerImage
from convae.model.priors.base import Prior


class StandardNormal(Prior):
    """Standard normal prior (Kingma & Welling 2013, arXiv:1312.6114)."""

    has_closed_kl: ClassVar = True

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latents:
        """Normal latents, (count, *latent), with `temperature` as their standard deviation."""
        z = normal_like(self.like.new_empty(count, *self.latent_shape), noise)
        return z if temperature == 1 else z * temperature

    def log_prob(self, z: Latents) -> PerImage:
        """Log p(z), nats."""
        return -0.5 * (z.square() + LOG_TWO_PI).flatten(1).sum(1)

    def relate(self, posterior: Posterior, latent: Latents) -> Posterior:
        """The posterior as it is, if its own divergence has a closed form: that is the one from N(0, I)."""
        return posterior if posterior.has_closed_kl else super().relate(posterior, latent)
