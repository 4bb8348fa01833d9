"""Mutual information of image and latent."""

from __future__ import annotations

from convae.core.types import PerImage
from convae.objective.terms._aggregate import AggregateTerm
from convae.objective.terms.base import LossInputs


class MutualInformation(AggregateTerm):
    """Mutual information of image and latent, log q(z | x) − log q(z): the first part of the KL divergence.

    One of the three parts of β-TCVAE (Chen et al. 2018, arXiv:1802.04942); see `total-correlation`,
    also for estimates of slices.

    Args:
        estimator: of the density of the aggregate posterior.
        images: N, the number of images in the data; by default that of the training data.
    """

    def forward(self, inputs: LossInputs) -> PerImage:
        """The estimate at the latent of each image; single values may be negative."""
        densities = self.densities(inputs)
        return densities.posterior - densities.joint
