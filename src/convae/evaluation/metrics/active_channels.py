"""Number of active channels."""

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


class ActiveChannels(ImageMetric):
    """Active channels of a latent map: the posterior mean varies over images, as for `active-units`.

    The variance over images at each position is averaged over positions. For codes, use `code-usage`.

    Args:
        threshold: variance above which a channel is active.
    """

    unit: ClassVar = "channels"
    needs: ClassVar = "a single latent that is a map, and not of codes"
    better: ClassVar = None
    default: ClassVar = False

    def __init__(self, *, threshold: PositiveFloat = 0.01) -> None:
        self.threshold = threshold
        self._places = 1

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the latent is a map without codes."""
        return has_continuous_latents(model) and not model.is_hierarchical and len(model.latent_shape) > 1

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, 2 · value): posterior means and their squares."""
        mean = batch.posterior.mean
        self._places = mean[0, 0].numel()
        flat = mean.flatten(1).double()
        return torch.cat([flat, flat.square()], dim=1)

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some 1"]:
        """The number of channels with a mean variance above the threshold."""
        first, second = means.chunk(2, dim=-1)
        variance: Tensor = (second - first.square()).unflatten(-1, (-1, self._places)).mean(-1)
        return (variance > self.threshold).double().sum(-1, keepdim=True)
