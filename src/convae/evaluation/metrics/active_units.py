"""Number of active units."""

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
    """Active units: latent values whose posterior mean varies over images (Burda, Grosse & Salakhutdinov 2015).

    arXiv:1509.00519, appendix C. For codes, use `code-usage`.

    Args:
        threshold: variance of the posterior mean above which a value is active.
    """

    unit: ClassVar = "latent values"
    needs: ClassVar = "latents that are not codes"
    better: ClassVar = None

    def __init__(self, *, threshold: PositiveFloat = 0.01) -> None:
        self.threshold = threshold

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether no latent is a code."""
        return has_continuous_latents(model)

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, 2 · value): posterior means and their squares."""
        mean = batch.posterior.mean.flatten(1).double()
        return torch.cat([mean, mean.square()], dim=1)

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some 1"]:
        """The number of values with a variance above the threshold."""
        first, second = means.chunk(2, dim=-1)
        return (second - first.square() > self.threshold).double().sum(-1, keepdim=True)
