"""KL divergence of each latent value."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric, has_gaussian_posterior
from convae.latents import EvalBatch
from convae.model.vae import VAE


class KLPerUnit(ImageMetric):
    """KL divergence of each latent value from the prior, nats per image; the sum is `kl`."""

    unit: ClassVar = "nats"
    needs: ClassVar = "a Gaussian posterior and prior"
    better: ClassVar = None
    per_value: ClassVar = True

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the KL divergence is a sum over latent values."""
        return has_gaussian_posterior(model) and model.prior.has_closed_kl

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, value): the KL divergence of each latent value."""
        values = batch.drawn_posterior.kl_values()
        assert values is not None  # of a Gaussian posterior
        return values.flatten(1)
