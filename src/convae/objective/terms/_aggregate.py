"""Density of the aggregate posterior, estimated from a batch of Gaussian posteriors.

q(z) = 1/N Σ q(z | xₙ) over the N images of the data is estimated at the latents of a batch (Chen et al. 2018,
arXiv:1802.04942). The images of the batch are those that one process sees at once, a slice under gradient accumulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.errors import ConfigError
from convae.core.posterior import LOG_TWO_PI
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term

Estimator = Literal["stratified", "weighted"]
"""`stratified` is unbiased for q(z); `weighted` (MWS) is biased, and needs no other images than those of the batch."""


@dataclass(frozen=True)
class AggregateDensities:
    """Log densities of latents, nats.

    Attributes:
        posterior: (row,), log q(z | x).
        joint: (row,), log q(z).
        product: (row,), Σ log q(z_d) over the latent values.
    """

    posterior: PerImage
    joint: PerImage
    product: PerImage


class AggregateTerm(Term):
    """A term of log densities under the aggregate posterior.

    Args:
        estimator: of the density of the aggregate posterior.
        images: N, the number of images in the data; by default that of the training data.
    """

    unit: ClassVar = "nats"
    example: ClassVar = {"images": 100}

    def __init__(self, *, estimator: Estimator = "stratified", images: Positive | None = None) -> None:
        super().__init__()
        self.estimator: Estimator = estimator
        self.images = images

    def densities(self, inputs: LossInputs) -> AggregateDensities:
        """The densities of the latents of a batch; see `aggregate_densities`."""
        return aggregate_densities(inputs, self.estimator, self.images)


def aggregate_densities(inputs: LossInputs, estimator: Estimator, images: int | None) -> AggregateDensities:
    """The densities of the latents of a batch under the aggregate posterior and the product of its marginals.

    Args:
        inputs: of the term.
        estimator: of q(z).
        images: N, number of images in the data; by default that of the training data.

    Raises:
        ConfigError: N is unknown, or the posterior is no diagonal Gaussian.
    """
    size = images or inputs.data_size
    if size is None:
        raise ConfigError("the number of images in the data is unknown. Set images")
    posterior = inputs.gaussian
    z = inputs.output.latent.flatten(1).to(posterior.mean.dtype)
    # One posterior for each image: rows of further samples repeat it.
    mean, logvar = posterior.mean.flatten(1)[:: inputs.samples], posterior.logvar.flatten(1)[:: inputs.samples]
    scaled = (z[:, None] - mean).square() * torch.exp(-logvar)
    values = -0.5 * (scaled + logvar + LOG_TWO_PI)
    weights = _log_weights(len(mean), size, estimator, values).repeat_interleave(inputs.samples, 0)
    return AggregateDensities(
        posterior=posterior.log_prob(inputs.output.latent),
        joint=torch.logsumexp(values.sum(2) + weights, 1),
        product=torch.logsumexp(values + weights[:, :, None], 1).sum(1),
    )


def _log_weights(batch: int, size: int, estimator: Estimator, like: Tensor) -> Tensor:
    """(batch, batch): log weight of the posterior of each image in the density at the latent of each image."""
    if estimator == "weighted" or batch == 1:
        return like.new_full((batch, batch), -math.log(batch * size))
    # The own image counts 1/N, and the others stand for the other N − 1. In the paper, one of the others has another
    # weight; equal weights have the same mean and do not depend on the order.
    weights = like.new_full((batch, batch), math.log(max(size - 1, 1) / (size * (batch - 1))))
    return weights.fill_diagonal_(-math.log(size))
