"""Gaussian likelihood with the best variance."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convae.core.slices import batch_mean
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term

LEAST_VARIANCE = math.exp(-12)
"""Lower bound of the variance, squared image units."""


class OptimalGaussian(Term):
    """Gaussian −log p(x | z) with the variance of largest likelihood: the mean squared error of a batch or an image.

    The optimal σ-VAE (Rybkin, Daniilidis & Levine 2021, arXiv:2006.13202): it replaces `reconstruction`
    next to `kl`, and balances both without a parameter. The batch mean is D/2 · (log σ² + 1 + log 2π) with D image
    values; its gradient is that of the squared error over 2σ².

    Args:
        over: images that share a variance: those of the batch or each alone.
    """

    unit: ClassVar = "nats"

    def __init__(self, *, over: Literal["batch", "image"] = "batch") -> None:
        super().__init__()
        self.over = over

    def forward(self, inputs: LossInputs) -> PerImage:
        """−log p(x | z) of each image."""
        squares = (inputs.values - inputs.reconstruction).square()
        errors = inputs.weighted(squares).flatten(1)
        # The gradient by the variance is zero at the optimum, over all images that share it.
        if inputs.value_weights is None:
            count: int | Tensor = errors.shape[1]
            variance = errors.mean(1) if self.over == "image" else batch_mean(errors.mean(1).detach())
        else:
            count = inputs.value_weights.expand_as(squares).flatten(1).sum(1)
            sums = torch.stack([errors.sum(1).detach(), count], 1)
            total = sums if self.over == "image" else batch_mean(sums)
            variance = total[..., 0] / total[..., 1]
        variance = variance.clamp_min(LEAST_VARIANCE)
        return 0.5 * (errors.sum(1) / variance + count * (variance.log() + math.log(2 * math.pi)))
