"""Mutual information of images and latents."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import EncodedSplit, LatentMetric, has_single_gaussian
from convae.model.vae import VAE


class MutualInformation(LatentMetric):
    """Mutual information I(x; z) of images and latents, E log q(z | x) − log q(z) (Hoffman & Johnson 2016).

    It equals `kl` minus the KL divergence of the aggregate posterior from the prior. For N images it is at most log N;
    values within 1 nat of this bound are reported as lower bounds. The mean is over latents of at most 10,000 images,
    the aggregate posterior q(z) over all images.
    """

    unit: ClassVar = "nats"
    needs: ClassVar = "one latent with a Gaussian posterior"
    better: ClassVar = None

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether there is one latent with a Gaussian posterior."""
        return has_single_gaussian(model)

    def rows(self, encoded: EncodedSplit) -> Tensor:
        """(query,): log q(z | x) − log q(z) at the sampled latent."""
        return encoded.log_posterior - encoded.log_aggregate

    def bounded_by(self, encoded: EncodedSplit) -> float | None:
        """Log N if the value is within 1 nat of it, else None."""
        return encoded.information_bound
