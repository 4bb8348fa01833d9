"""Mean of each channel of the latent."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.evaluation.metrics._channels import ChannelMetric, mean_over_places
from convae.latents import EvalBatch


class LatentMean(ChannelMetric):
    """Mean of each channel of the latent over images and positions: the shift that a generator takes off."""

    unit: ClassVar = "latent units"
    better: ClassVar = None

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, channel): means of a posterior sample over positions, in expectation."""
        return mean_over_places(batch.drawn_moments[0])
