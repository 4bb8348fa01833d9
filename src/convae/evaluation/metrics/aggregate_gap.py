"""How far the posteriors of all images together are from the prior."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import Encoded, LatentMetric, has_single_gaussian
from convae.model.vae import VAE


class AggregateGap(LatentMetric):
    """KL divergence of the aggregate posterior from the prior: `kl` minus the mutual information.

    Where it is large, latents drawn from the prior fall where no image is, and samples are worse than
    reconstructions (Hoffman & Johnson 2016; Rosca et al. 2018). Left out where the mutual information is at its bound
    log N for N images: the mixture of their posteriors then is lumpier than that of all images of their kind, and the
    figure would be `kl` − log N whatever the model. The mean is over the drawn latents of 10,000 images at most.
    """

    unit: ClassVar = "nats"
    needs: ClassVar = "one latent with a Gaussian posterior"
    better: ClassVar = "lower"

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the posteriors are Gaussians, whose mixture has a density."""
        return has_single_gaussian(model)

    def rows(self, encoded: Encoded) -> Tensor:
        """(query,): log q(z) − log p(z) at the drawn latent."""
        return encoded.log_aggregate - encoded.log_prior

    def unmeasurable(self, encoded: Encoded) -> str | None:
        """That the mutual information is at its bound, if it is."""
        if encoded.information_bound is None:
            return None
        return (
            f"the mutual information is at its bound, log N = {encoded.information_bound:.4g} nats for "
            f"N = {len(encoded.mean):,} images, so the gap is not measurable: evaluate on more images"
        )
