"""KL divergence of the marginals of the latent."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms._aggregate import AggregateTerm
from convae.objective.terms.base import LossInputs


class DimensionKL(AggregateTerm):
    """KL divergence of the marginals of the aggregate posterior from the prior, Σ log q(z_d) − log p(z).

    One of the three parts of β-TCVAE (Chen et al. 2018, arXiv:1802.04942); see `total-correlation`,
    also for estimates of slices.

    Args:
        estimator: of the density of the aggregate posterior.
        images: N, the number of images in the data; by default that of the training data.
    """

    regularizes_posterior: ClassVar = True

    def forward(self, inputs: LossInputs) -> PerImage:
        """The estimate at the latent of each image; single values may be negative."""
        densities = self.densities(inputs)
        return densities.product - inputs.posterior.log_prior(inputs.output.latent)
