"""Peak signal-to-noise ratio."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.types import PerImage
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch

LOWEST_MSE = 1e-10
"""An exact reconstruction counts as 100 dB."""


class PSNR(ImageMetric):
    """−10·log₁₀ of the mean squared error of each image with a peak of 1, then the mean over images, in dB.

    Missing values are left out.
    """

    unit: ClassVar = "dB"
    better: ClassVar = "higher"

    def rows(self, batch: EvalBatch) -> PerImage:
        """The ratio of each image's reconstruction from the posterior's mean."""
        error = batch.observed_mean((batch.images - batch.reconstruction.mean).square())
        return -10 * torch.log10(error.clamp_min(LOWEST_MSE))
