"""The uniform prior on the sphere."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from convae.core.errors import ConfigError
from convae.core.noise import Generators, normal_like
from convae.core.posterior import Posterior
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck
from convae.model.posteriors.von_mises_fisher import log_area
from convae.model.priors.base import Prior


class UniformSphere(Prior):
    """Uniform prior on the unit sphere (Davidson et al. 2018, arXiv:1804.00891).

    Raises:
        ConfigError: the latents are not on a sphere.
    """

    has_closed_kl: ClassVar = True
    has_temperature: ClassVar = False
    is_spherical: ClassVar = True

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__(bottleneck)
        if not bottleneck.is_spherical:
            raise ConfigError("the latents are not on a sphere. Use the bottleneck von-mises-fisher")

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latents:
        """Unit vectors, (count, value); the temperature has no effect on a uniform distribution."""
        return F.normalize(normal_like(self.like.new_empty(count, *self.latent_shape), noise), dim=1)

    def log_prob(self, z: Latents) -> PerImage:
        """Minus the logarithm of the area of the sphere, nats."""
        return z.new_full((len(z),), -log_area(z.shape[1]))

    def relate(self, posterior: Posterior, latent: Latents) -> Posterior:
        """The posterior as it is, if its own divergence has a closed form: that is the one from this prior."""
        return posterior if posterior.has_closed_kl else super().relate(posterior, latent)
