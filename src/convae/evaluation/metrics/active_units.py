"""How many latent values the model uses."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from convae.core.arguments import PositiveFloat
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric, has_continuous_latents
from convae.latents import EvalBatch
from convae.model.vae import VAE


class ActiveUnits(ImageMetric):
    """Latent values whose posterior mean varies over the images (Burda, Grosse & Salakhutdinov 2015, appendix C).

    Not for quantized latents: what is in use there is codes.

    Args:
        threshold: the variance of the mean above which a value counts as active.
    """

    unit: ClassVar = "latent values"
    needs: ClassVar = "latents that are not codes"
    better: ClassVar = None

    def __init__(self, *, threshold: PositiveFloat = 0.01) -> None:
        self.threshold = threshold

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether latent values are no parts of a code."""
        return has_continuous_latents(model)

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, 2 · value): each posterior mean, and its square."""
        mean = batch.posterior.mean.flatten(1).double()
        return torch.cat([mean, mean.square()], dim=1)

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some 1"]:
        """The number of values with a larger variance, from their first and second moments."""
        first, second = means.chunk(2, dim=-1)
        return (second - first.square() > self.threshold).double().sum(-1, keepdim=True)
