"""Total correlation of the latents."""

from __future__ import annotations

from convae.core.types import PerImage
from convae.objective.terms._aggregate import AggregateTerm
from convae.objective.terms.base import LossInputs


class TotalCorrelation(AggregateTerm):
    """Total correlation of the aggregate posterior, log q(z) − Σ log q(z_d): 0 where latent values are independent.

    β-TCVAE (Chen et al. 2018, arXiv:1802.04942): with `reconstruction` and `kl`, its weight is β − 1. The KL
    divergence is the sum of `mutual-information`, this term and `dimension-kl`, which can be weighed one by one
    instead. Estimated from the posteriors of the batch, in time and memory of the square of its size; under
    `training.accumulate` and in several processes, from those of each slice, so use large slices.

    Args:
        estimator: of the density of the aggregate posterior.
        images: N, the number of images in the data; by default that of the training data.
    """

    def forward(self, inputs: LossInputs) -> PerImage:
        """The estimate at the latent of each image; single values may be negative."""
        densities = self.densities(inputs)
        return densities.joint - densities.product
