"""Reconstruction loss."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch


class Reconstruction(ImageMetric):
    """−log p(x | z) for one posterior sample z, nats per image: the first part of the negative ELBO."""

    unit: ClassVar = "nats"
    better: ClassVar = "lower"

    def rows(self, batch: EvalBatch) -> PerImage:
        """The negative log-likelihood of each image."""
        return -batch.log_likelihood
