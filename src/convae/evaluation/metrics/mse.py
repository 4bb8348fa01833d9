"""Mean squared error."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch


class MSE(ImageMetric):
    """Mean squared error of the reconstruction over the observed values of an image, which are in [0, 1]."""

    unit: ClassVar = "squared image units"
    better: ClassVar = "lower"

    def rows(self, batch: EvalBatch) -> PerImage:
        """The error of the reconstruction of each image at the posterior mean."""
        return batch.observed_mean((batch.images - batch.reconstruction.mean).square())
