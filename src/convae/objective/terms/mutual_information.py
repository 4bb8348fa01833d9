"""Mutual information of image and latent."""

from __future__ import annotations

from typing import ClassVar

from convae.core.arguments import Positive
from convae.core.types import PerImage
from convae.objective.terms._aggregate import Estimator, aggregate_densities
from convae.objective.terms.base import LossInputs, Term


class MutualInformation(Term):
    """Mutual information of image and latent, log q(z | x) − log q(z): the first part of the KL divergence.

    One of the three parts of β-TCVAE (Chen et al. 2018, arXiv:1802.04942); see `total-correlation`.

    Args:
        estimator: of the density of the aggregate posterior.
        images: N, the number of images in the data; by default that of the training data.
    """

    unit: ClassVar = "nats"
    example: ClassVar = {"images": 100}

    def __init__(self, *, estimator: Estimator = "stratified", images: Positive | None = None) -> None:
        super().__init__()
        self.estimator: Estimator = estimator
        self.images = images

    def forward(self, inputs: LossInputs) -> PerImage:
        """The estimate at the latent of each image; single values may be negative."""
        densities = aggregate_densities(inputs, self.estimator, self.images)
        return densities.posterior - densities.joint
