"""How much the latent tells about which image it came from."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import Encoded, LatentMetric, has_single_gaussian
from convae.model.vae import VAE


class MutualInformation(LatentMetric):
    """I(x; z) under the encoder: KL to the prior minus that of the aggregate posterior (Hoffman & Johnson 2016).

    With N images it cannot exceed log N: within 1 nat of that it is reported as a lower bound. The mean is over the
    drawn latents of 10,000 images at most; the aggregate posterior is that of all.
    """

    unit: ClassVar = "nats"
    needs: ClassVar = "one latent with a Gaussian posterior"
    better: ClassVar = None

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the posteriors are Gaussians, whose mixture has a density."""
        return has_single_gaussian(model)

    def rows(self, encoded: Encoded) -> Tensor:
        """(query,): log q(z | x) − log q(z) at the drawn latent."""
        return encoded.log_posterior - encoded.log_aggregate

    def bounded_by(self, encoded: Encoded) -> float | None:
        """Log N, where the value is within 1 nat of it."""
        return encoded.information_bound
