"""KL divergence of each channel of the latent."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics._channels import ChannelMetric, mean_over_places
from convae.evaluation.metrics.base import has_single_gaussian
from convae.latents import EvalBatch
from convae.model.vae import VAE


class KLPerChannel(ChannelMetric):
    """KL divergence of each channel of the latent from the prior, nats per image; the sum is `kl`."""

    unit: ClassVar = "nats"
    needs: ClassVar = "a single latent with a Gaussian posterior and prior"
    better: ClassVar = None

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the KL divergence is a sum over latent values."""
        return has_single_gaussian(model) and model.prior.has_closed_kl

    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch, channel): sums over positions."""
        values = batch.drawn_posterior.kl_values()
        assert values is not None  # of a Gaussian posterior
        return mean_over_places(values) * (values[0, 0].numel())
