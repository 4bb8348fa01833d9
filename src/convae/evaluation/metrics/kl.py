"""Divergence of the posterior from the prior."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch


class KL(ImageMetric):
    """KL divergence of the posterior from the prior, nats per image: the second part of the negative ELBO."""

    unit: ClassVar = "nats"
    better: ClassVar = None

    def rows(self, batch: EvalBatch) -> PerImage:
        """The divergence of each image's posterior."""
        return batch.drawn_posterior.kl()
