"""The KL with an allowance that costs nothing to use."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.arguments import NonNegativeFloat, Positive
from convae.core.collective import is_shared, shared_sum
from convae.core.errors import ConfigError
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class FreeBits(Term):
    """KL divergence in which each group of the latent costs at least an allowance (Kingma et al. 2016).

    arXiv:1606.04934, appendix C.8: the sum over groups of max(allowance, KL of the group). A group below its
    allowance has no gradient, so it is not pushed to the prior: a remedy for latents that collapse. What is compared
    with the allowance is the mean over the batch, as in the paper, or each image's own KL. In place of `kl`; with
    `kl` at a weight of 0 beside it, the true divergence is logged too.

    Args:
        nats: the allowance of each group.
        groups: number of equal groups of neighboring latent channels (of a vector, latent values); without it,
            each channel is a group.
        mean_over_batch: whether the batch's mean is compared, or each image's own KL.
    """

    unit: ClassVar = "nats"

    def __init__(
        self, *, nats: NonNegativeFloat = 0.25, groups: Positive | None = None, mean_over_batch: bool = True
    ) -> None:
        super().__init__()
        self.nats = nats
        self.groups = groups
        self.mean_over_batch = mean_over_batch

    def forward(self, inputs: LossInputs) -> PerImage:
        """The divergence of each image's posterior; that of a group within its allowance is the allowance."""
        values = inputs.posterior.kl_values()
        if values is None:
            raise ConfigError("needs a posterior whose KL divergence is a sum over latent values")
        batch, channels = values.shape[:2]
        count = self.groups or channels
        if channels % count:
            raise ConfigError(f"{channels} latent channels do not make {count} equal groups")
        groups = values.reshape(batch, count, -1).sum(2)
        compared = _mean(groups.detach()) if self.mean_over_batch else groups
        return torch.where(compared > self.nats, groups, self.nats).sum(1)


def _mean(groups: Tensor) -> Tensor:
    """(1, group): the mean over the images of the batch, those of other processes among them."""
    if not is_shared():
        return groups.mean(0, keepdim=True)
    sums = shared_sum(torch.cat([groups.sum(0), groups.new_full((1,), len(groups))]))
    return (sums[:-1] / sums[-1])[None]
