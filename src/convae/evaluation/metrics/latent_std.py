"""Standard deviation of each channel of the latent."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from convae.evaluation.metrics._channels import ChannelMetric, mean_over_places
from convae.latents import EvalBatch


class LatentStd(ChannelMetric):
    """Standard deviation of each channel of posterior samples over images and positions: the scale for a generator.

    As by `convae latents stats`, but with N in the denominator.
    """

    unit: ClassVar = "latent units"
    better: ClassVar = None

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, 2 · channel): means of a posterior sample and of its square over positions, in expectation."""
        mean, variance = batch.drawn_moments
        return torch.cat([mean_over_places(mean), mean_over_places(mean.square() + variance)], 1)

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some channel"]:
        """The standard deviations."""
        first, second = means.chunk(2, dim=-1)
        return (second - first.square()).clamp_min(0).sqrt()
