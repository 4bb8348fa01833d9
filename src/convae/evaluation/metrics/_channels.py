"""Base class of metrics with a value for each channel of a latent map."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.model.vae import VAE


class ChannelMetric(ImageMetric):
    """A metric with a value for each channel of one latent: of a map (channel, *grid), or of a vector."""

    default: ClassVar[bool] = False
    needs: ClassVar[str] = "a single latent"
    per_value: ClassVar[bool] = True

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the model has one latent."""
        return not model.is_hierarchical


def mean_over_places(values: Tensor) -> Tensor:
    """(batch, channel) means of values (batch, channel, *grid), in float64."""
    return values.flatten(2).double().mean(2) if values.ndim > 2 else values.double()
