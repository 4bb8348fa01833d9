"""How many latent values the model uses."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from convae.core.arguments import PositiveFloat
from convae.evaluation.metrics.base import ImageMetric, Passes


class ActiveUnits(ImageMetric):
    """Latent values whose posterior mean varies over the images (Burda, Grosse & Salakhutdinov 2015, appendix C).

    Args:
        threshold: the variance of the mean above which a value counts as active.
    """

    unit: ClassVar = "latent values"
    better: ClassVar = None

    def __init__(self, *, threshold: PositiveFloat = 0.01) -> None:
        self.threshold = threshold

    def rows(self, passes: Passes) -> Tensor:
        """(batch, 2 · value): each posterior mean, and its square."""
        mean = passes.drawn.posterior.mean.flatten(1).double()
        return torch.cat([mean, mean.square()], dim=1)

    def figure(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some 1"]:
        """The number of values with a larger variance, from their first and second moments."""
        first, second = means.chunk(2, dim=-1)
        return (second - first.square() > self.threshold).double().sum(-1, keepdim=True)
