"""Structural similarity."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch
from convae.objective.similarity import ssim


class SSIM(ImageMetric):
    """Structural similarity of image and reconstruction, with an 11-pixel Gaussian window (Wang et al. 2004)."""

    needs_whole_images: ClassVar = True
    unit: ClassVar = "similarity"
    better: ClassVar = "higher"

    def rows(self, batch: EvalBatch) -> PerImage:
        """The similarity of each image and its reconstruction at the posterior mean."""
        return ssim(batch.images, batch.reconstruction.mean)
