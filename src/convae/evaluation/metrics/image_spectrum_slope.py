"""Slope of the power spectrum of images."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics._spectrum import LEAST_SIZE, SpectrumSlope
from convae.latents import EvalBatch
from convae.model.vae import VAE


class ImageSpectrumSlope(SpectrumSlope):
    """Slope of log power against log frequency of the images, for comparison with `latent-spectrum-slope`."""

    needs: ClassVar = f"images of at least {LEAST_SIZE} pixels along each axis"

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the images are large enough."""
        return min(split.shape[1:]) >= LEAST_SIZE

    def maps(self, batch: EvalBatch) -> Tensor:
        """The images."""
        return batch.images
