"""Negative ELBO in bits per value."""

from __future__ import annotations

import math
from typing import ClassVar

from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric, has_elbo
from convae.latents import EvalBatch
from convae.model.vae import VAE


class BitsPerDimension(ImageMetric):
    """Negative ELBO divided by the number of observed values of the image and by log 2.

    Only for likelihoods that give levels a probability mass, and for images that have these levels: a density has no
    bits, and floats have no levels.
    """

    unit: ClassVar = "bits/dim"
    needs: ClassVar = "a discrete likelihood (discretized-logistic) and images of 8 or 16 bits"
    better: ClassVar = "lower"

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether likelihood and images are discrete, and there is an ELBO."""
        return model.head.discrete and split.levels is not None and has_elbo(model)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The rate of each image."""
        return -batch.elbo / (batch.observed * math.log(2))
