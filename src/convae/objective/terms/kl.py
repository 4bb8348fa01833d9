"""KL divergence."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from convae.core.device import copy_to_device
from convae.core.joint_posterior import split_posterior
from convae.core.posterior import Posterior
from convae.core.slices import batch_mean, is_first_pass
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class KL(Term):
    """KL divergence of the posterior from the prior, summed over the latents, nats per image.

    Its weight is the β of the β-VAE (Higgins et al. 2017); the value is unweighted.

    Args:
        balance: for the first epochs of a hierarchy, while the weight rises: each latent counts in proportion to its
            values and to its own mean KL divergence over the batch, so that latents which carry little are penalized
            little and none collapses early (NVAE, Vahdat & Kautz 2020, arXiv:2007.03898, appendix A). The factors have
            the mean 1. Without gradients, as in validation, the value is the plain divergence. The training total is
            then no bound on the likelihood: end with a stage without it.
    """

    unit: ClassVar = "nats"
    regularizes_posterior: ClassVar = True

    def __init__(self, *, balance: bool = False) -> None:
        super().__init__()
        self.balance = balance

    def forward(self, inputs: LossInputs) -> PerImage:
        """The KL divergence of each image."""
        parts = split_posterior(inputs.posterior)
        if not self.balance or len(parts) == 1:
            return inputs.posterior.kl()
        each = torch.stack([part.kl() for part in parts], 1)
        if not each.requires_grad and not is_first_pass():
            return each.sum(1)
        return (each * _balance(parts, each.detach())).sum(1)


def _balance(parts: list[Posterior], each: torch.Tensor) -> torch.Tensor:
    """(latent,): factors with mean 1, from the KL divergences of the images of the batch, (batch, latent)."""
    counts = torch.tensor([math.prod(part.mean.shape[1:]) for part in parts], dtype=each.dtype)
    sizes = copy_to_device(counts, each.device)
    # As in NVAE's code, 0.01 nats keep a latent without information from being free.
    factors = (batch_mean(each) + 0.01) * sizes
    return factors * len(parts) / factors.sum()
