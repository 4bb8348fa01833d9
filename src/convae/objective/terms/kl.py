"""How far the posterior is from the prior."""

from __future__ import annotations

from convae.core.types import Images, OutputLike, PerImage
from convae.objective.terms.base import Term


class KL(Term):
    """KL divergence of the posterior from the prior, summed over the latent, nats per image.

    Its weight is the β of the β-VAE (Higgins et al. 2017); the figure itself never contains it.
    """

    def forward(self, x: Images, output: OutputLike) -> PerImage:
        """The divergence of each image's posterior."""
        return output.posterior.kl()
