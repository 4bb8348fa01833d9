"""Disentangled inferred prior."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from convae.core.arguments import NonNegativeFloat
from convae.core.slices import batch_mean
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class DIP(Term):
    """Distance of the covariance of the aggregate posterior from the identity (Kumar, Sattigeri & Balakrishnan 2018).

    DIP-VAE, arXiv:1711.00848: Σ_{i≠j} Cov_ij² + diagonal · Σ_i (Cov_ii − 1)², with the covariance over the batch. The
    weight is the paper's λ_od; λ_d is 10 times as large for I, and as large for II. It is used with `kl`. The value is
    the same for all images.

    Args:
        covariance: `means` of the posterior means (DIP-VAE-I), or `latents`, to which the mean variance of the
            posteriors is added (DIP-VAE-II).
        diagonal: weight of the diagonal, relative to that of the other entries.
    """

    unit: ClassVar = "latent units^4"

    def __init__(self, *, covariance: Literal["means", "latents"] = "means", diagonal: NonNegativeFloat = 10.0) -> None:
        super().__init__()
        self.covariance = covariance
        self.diagonal = diagonal

    def forward(self, inputs: LossInputs) -> PerImage:
        """The penalty of the batch, for each image."""
        posterior = inputs.gaussian
        mean = posterior.mean.flatten(1)
        covariance = _covariance(mean)
        if self.covariance == "latents":
            covariance = covariance + torch.diag(batch_mean(posterior.logvar.flatten(1).exp()))
        squares = (covariance - torch.eye(len(covariance), dtype=mean.dtype, device=mean.device)).square()
        on = squares.diagonal().sum()
        return (squares.sum() - on + self.diagonal * on).expand(len(mean))


def _covariance(values: Tensor) -> Tensor:
    """(value, value): the covariance over the images of the global batch, with their number as the divisor."""
    # Not from centered values, whose mean over the slices of a batch is known only after all of them.
    mean = batch_mean(values)
    return batch_mean(values[:, :, None] * values[:, None, :]) - torch.outer(mean, mean)
