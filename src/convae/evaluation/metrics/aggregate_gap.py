"""KL divergence of the aggregate posterior from the prior."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import EncodedSplit, LatentMetric, has_single_gaussian
from convae.model.vae import VAE


class AggregateGap(LatentMetric):
    """KL divergence of the aggregate posterior from the prior: `kl` minus the mutual information.

    If it is large, the prior has mass in regions without encoded images, and samples are worse than reconstructions
    (Hoffman & Johnson 2016; Rosca et al. 2018, arXiv:1802.06847). It is omitted if the mutual information reaches its
    bound log N for N images, since the value would then be `kl` − log N for any model. The mean is over latents of at
    most 10,000 images.
    """

    unit: ClassVar = "nats"
    needs: ClassVar = "one latent with a Gaussian posterior"
    better: ClassVar = "lower"

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether there is one latent with a Gaussian posterior."""
        return has_single_gaussian(model)

    def rows(self, encoded: EncodedSplit) -> Tensor:
        """(query,): log q(z) − log p(z) at the sampled latent."""
        return encoded.log_aggregate - encoded.log_prior

    def unmeasurable(self, encoded: EncodedSplit) -> str | None:
        """The reason, if the mutual information reaches its bound."""
        if encoded.information_bound is None:
            return None
        return (
            f"mutual information reaches its bound, log N = {encoded.information_bound:.4g} nats for "
            f"N = {len(encoded.mean):,} images. Evaluate on more images"
        )
