"""Negative log-likelihood of the image given its latent."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import Metric, Passes


class Reconstruction(Metric):
    """−log p(x | z) with one drawn latent, nats per image: the first part of the negative ELBO."""

    unit: ClassVar = "nats"
    better: ClassVar = "lower"

    def per_image(self, passes: Passes) -> PerImage:
        """The negative log-likelihood of each image."""
        return -passes.drawn.likelihood.log_prob(passes.images)
