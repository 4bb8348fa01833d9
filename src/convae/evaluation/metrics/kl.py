"""Divergence of the posterior from the prior."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import Metric, Passes


class KL(Metric):
    """KL divergence of the posterior from the prior, nats per image: the second part of the negative ELBO."""

    unit: ClassVar = "nats"
    better: ClassVar = None

    def per_image(self, passes: Passes) -> PerImage:
        """The divergence of each image's posterior."""
        return passes.drawn.posterior.kl()
