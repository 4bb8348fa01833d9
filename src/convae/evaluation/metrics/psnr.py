"""Peak signal-to-noise ratio."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.types import PerImage
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch

LOWEST_MSE = 1e-10
"""Lower bound of the mean squared error, for at most 100 dB."""


class PSNR(ImageMetric):
    """Peak signal-to-noise ratio, −10·log₁₀(MSE) of each image for a peak of 1, averaged over images, in dB.

    The error is over observed values.
    """

    unit: ClassVar = "dB"
    better: ClassVar = "higher"

    def rows(self, batch: EvalBatch) -> PerImage:
        """The ratio of each image for the reconstruction at the posterior mean."""
        error = batch.observed_mean((batch.images - batch.reconstruction.mean).square())
        return -10 * torch.log10(error.clamp_min(LOWEST_MSE))
