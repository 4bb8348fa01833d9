"""Slope of the power spectrum of latent maps."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics._spectrum import LEAST_SIZE, SpectrumSlope
from convae.latents import EvalBatch
from convae.model.vae import VAE


class LatentSpectrumSlope(SpectrumSlope):
    """Slope of log power against log frequency of latent maps: near 0 if they are as rough as white noise.

    Channels are scaled to equal power. Latents whose spectrum falls as that of images, see `image-spectrum-slope`, suit
    diffusion models (Skorokhodov et al. 2025, arXiv:2502.14831).
    """

    needs: ClassVar = f"a single latent that is a map of at least {LEAST_SIZE} positions along each axis"

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the latent is a map that is large enough."""
        return not model.is_hierarchical and min(model.latent_shape[1:], default=0) >= LEAST_SIZE

    def maps(self, batch: EvalBatch) -> Tensor:
        """The posterior means."""
        return batch.posterior.mean
