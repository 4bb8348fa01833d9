"""KL divergence of the posterior from the prior."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric, has_elbo
from convae.latents import EvalBatch
from convae.model.vae import VAE


class KL(ImageMetric):
    """KL divergence of the posterior from the prior, nats per image: the second part of the negative ELBO."""

    unit: ClassVar = "nats"
    needs: ClassVar = "a posterior that is not deterministic"
    better: ClassVar = None

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the posterior has a KL divergence from the prior."""
        return has_elbo(model)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The KL divergence of each image."""
        return batch.drawn_posterior.kl()
