"""KL divergence of each latent of a hierarchy."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.joint_posterior import split_posterior
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.latents import EvalBatch
from convae.model.vae import VAE


class KLPerLatent(ImageMetric):
    """KL divergence of each latent of a hierarchy, top level first, nats per image; the sum is `kl`."""

    unit: ClassVar = "nats"
    needs: ClassVar = "several latents"
    better: ClassVar = None
    per_value: ClassVar = True

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the model has several latents."""
        return model.is_hierarchical

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, latent): the KL divergence of each latent."""
        return torch.stack([part.kl() for part in split_posterior(batch.drawn_posterior)], 1)
