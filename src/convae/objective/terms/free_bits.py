"""Free bits."""

from __future__ import annotations

from typing import ClassVar

import torch

from convae.core.arguments import NonNegativeFloat, Positive
from convae.core.errors import ConfigError
from convae.core.joint_posterior import split_posterior
from convae.core.posterior import Posterior
from convae.core.slices import batch_mean
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class FreeBits(Term):
    """KL divergence with free bits: the sum over latent groups of max(λ, KL of the group) (Kingma et al. 2016).

    arXiv:1606.04934, appendix C.8. A group below λ has no gradient, which counters posterior collapse. λ is compared
    with the batch mean, as in the paper, or with the KL of each image. It replaces `kl`; add `kl` with weight 0 to log
    the KL divergence. In a hierarchy, each latent is divided into groups by itself; codes count with their constant.

    Args:
        nats: λ, free nats of each group.
        groups: number of equal groups of neighboring latent channels (of a vector, latent values) in each latent;
            without it, each channel is a group. 1 gives λ to each latent of a hierarchy as a whole.
        mean_over_batch: whether λ is compared with the batch mean, or with the KL of each image.
    """

    unit: ClassVar = "nats"
    example: ClassVar = {"nats": 0.01}
    regularizes_posterior: ClassVar = True

    def __init__(
        self, *, nats: NonNegativeFloat = 0.25, groups: Positive | None = None, mean_over_batch: bool = True
    ) -> None:
        super().__init__()
        self.nats = nats
        self.groups = groups
        self.mean_over_batch = mean_over_batch

    def forward(self, inputs: LossInputs) -> PerImage:
        """The sum over groups of max(λ, KL) of each image."""
        return torch.stack([self._of_latent(each) for each in split_posterior(inputs.posterior)]).sum(0)

    def _of_latent(self, posterior: Posterior) -> PerImage:
        """The sum over the groups of one latent."""
        if posterior.is_discrete:
            return posterior.kl()
        values = posterior.kl_values()
        if values is None:
            raise ConfigError("needs a posterior whose KL divergence is a sum over latent values")
        batch, channels = values.shape[:2]
        count = self.groups or channels
        if channels % count:
            raise ConfigError(
                f"{channels} latent channels cannot be divided into {count} equal groups. Set groups to a divisor"
            )
        groups = values.reshape(batch, count, -1).sum(2)
        compared = batch_mean(groups.detach()) if self.mean_over_batch else groups
        return torch.where(compared > self.nats, groups, self.nats).sum(1)
