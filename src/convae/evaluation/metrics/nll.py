"""Negative log-likelihood by importance sampling."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.arguments import Positive
from convae.core.output import importance_bound
from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric, has_posterior_density
from convae.latents import EvalBatch
from convae.model.vae import VAE


class NLL(ImageMetric):
    """Importance-weighted estimate of the NLL, −log (1/K) Σ p(x | zₖ) p(zₖ) / q(zₖ | x), nats per image.

    An upper bound on −log p(x) that becomes tight as K grows (Burda, Grosse & Salakhutdinov 2015, arXiv:1509.00519).
    Memory does not depend on K.

    Args:
        samples: K, number of posterior samples per image.
    """

    unit: ClassVar = "nats"
    needs: ClassVar = "a posterior with a density"
    better: ClassVar = "lower"
    default: ClassVar = False
    example: ClassVar = {"samples": 3}

    def __init__(self, *, samples: Positive = 64) -> None:
        self.samples = samples

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the posterior has a density."""
        return has_posterior_density(model)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The bound of each image, in float64."""
        model, generators = batch.model, batch.generators("nll")
        weights = []
        for _ in range(self.samples):
            output = model.decode_features(batch.features, noise=generators)
            weights.append(output.log_weights(batch.images, batch.weights))
        return -importance_bound(torch.stack(weights, dim=1))
