"""Evidence lower bound."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.arguments import Positive
from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric, has_elbo
from convae.latents import EvalBatch
from convae.model.vae import VAE


class ELBO(ImageMetric):
    """Evidence lower bound (ELBO), log p(x | z) − KL for z from the posterior, nats per image, without β.

    For equal seeds, its negative is the default score of `convae anomalies` and `convae ood`.

    Args:
        samples: number of posterior samples per image, over which the bound is averaged.
    """

    unit: ClassVar = "nats"
    needs: ClassVar = "a posterior that is not deterministic"
    better: ClassVar = "higher"
    example: ClassVar = {"samples": 2}

    def __init__(self, *, samples: Positive = 1) -> None:
        self.samples = samples

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the posterior has a finite KL divergence from the prior."""
        return has_elbo(model)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The bound of each image."""
        if self.samples == 1:
            return batch.elbo
        found = [batch.elbo]
        for _ in range(self.samples - 1):
            output = batch.model.decode_features(batch.features, noise=batch.latent_generators)
            found.append(output.likelihood.log_prob(batch.images, batch.weights) - output.posterior.kl())
        return torch.stack(found).mean(0)
