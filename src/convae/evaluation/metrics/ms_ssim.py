"""Multi-scale structural similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch
from convae.model.vae import VAE
from convae.objective.similarity import SCALE_WEIGHTS, least_size, ms_ssim


class MSSSIM(ImageMetric):
    """Multi-scale structural similarity of image and reconstruction (Wang, Simoncelli & Bovik 2003).

    Args:
        scales: number of scales; 5 need images of at least 176 pixels, 2 at least 22.
    """

    needs_whole_images: ClassVar = True
    unit: ClassVar = "similarity"
    needs: ClassVar = "larger images or fewer scales, such as ms-ssim.scales=2 for at least 22 pixels"
    better: ClassVar = "higher"
    example: ClassVar[Mapping[str, Any]] = {"scales": 2}

    def __init__(self, *, scales: Annotated[int, Field(ge=1, le=len(SCALE_WEIGHTS))] = len(SCALE_WEIGHTS)) -> None:
        self.scales = scales

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the images are large enough for the number of scales."""
        return min(model.input_shape[1:]) >= least_size(self.scales)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The similarity of each image and its reconstruction at the posterior mean."""
        return ms_ssim(batch.images, batch.reconstruction.mean, scales=self.scales)
