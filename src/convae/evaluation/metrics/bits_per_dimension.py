"""Bits per dimension."""

from __future__ import annotations

import math
from typing import ClassVar

from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric, has_elbo
from convae.latents import EvalBatch
from convae.model.vae import VAE


class BitsPerDimension(ImageMetric):
    """Bits per dimension: the negative ELBO divided by log 2 and the number of observed values of the image.

    Only for likelihoods that are probabilities: densities and floats have no bits, and the cross-entropy of `bernoulli`
    is a probability of binary images only.
    """

    unit: ClassVar = "bits/dim"
    needs: ClassVar = "discretized-logistic or categorical and images of 8 or 16 bits, or bernoulli and binary images"
    better: ClassVar = "lower"

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the likelihood of the images is a probability, and the model has an ELBO."""
        return model.head.is_probability(split.levels) and has_elbo(model)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The bits per dimension of each image."""
        return -batch.elbo / (batch.observed * math.log(2))
