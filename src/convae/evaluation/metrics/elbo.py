"""Evidence lower bound."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import Metric, Passes


class ELBO(Metric):
    """log p(x | z) − KL with one drawn latent: a lower bound on log p(x), nats per image, without any β."""

    unit: ClassVar = "nats"
    better: ClassVar = "higher"

    def per_image(self, passes: Passes) -> PerImage:
        """The bound for each image."""
        return passes.drawn.likelihood.log_prob(passes.images) - passes.drawn.posterior.kl()
