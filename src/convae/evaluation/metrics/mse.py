"""Mean squared error."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch


class MSE(ImageMetric):
    """Mean of the squared difference between image and reconstruction, in [0, 1], over an image's observed values."""

    unit: ClassVar = "squared image units"
    better: ClassVar = "lower"

    def rows(self, batch: EvalBatch) -> PerImage:
        """The error of each image's reconstruction from the posterior's mean."""
        return batch.observed_mean((batch.images - batch.reconstruction.mean).square())
