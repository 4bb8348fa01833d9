"""Gaussian bottleneck."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from convae.core.arguments import Positive
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.posterior import MIN_LOGVAR, GaussianPosterior
from convae.core.precision import at_least_float32, with_gradient_of
from convae.core.types import Shape
from convae.model.bottlenecks.base import Bottleneck, project

MAX_LOGVAR = 40.0
"""Largest allowed bound of the log-variance: the variance, its inverse and their squares fit float32. Published weights
were trained without a bound; those of torch-vae reach 22 on random noise."""
LOGVAR_SCALE = 0.1
"""Factor on the initial log-variance weights of a head, so that posteriors start close to unit variance."""


class Gaussian(Bottleneck):
    """Diagonal Gaussian posterior (Kingma & Welling 2013, arXiv:1312.6114).

    The head, a linear layer for vectors and a 1×1 convolution for maps, maps features to mean and log-variance.
    Without a head, the first half of the channels is the mean and the second half the log-variance.

    Args:
        shape: (channels, *sizes) of the encoder's features.
        latent: latent dimension, or latent channels of a map; by default, without a head, half of the feature
            channels.
        head: whether to map features to the posterior with a linear layer.
        max_logvar: upper bound of the log-variance. Fitted posteriors are narrower than the prior (log-variance 0), but
            without a bound one unusual image can have a KL divergence of e⁴⁰ nats and dominate a mean.
    """

    example: ClassVar = {"latent": 3}

    def __init__(
        self,
        shape: Shape,
        *,
        latent: Positive | None = None,
        head: bool = True,
        max_logvar: Annotated[float, Field(ge=0, le=MAX_LOGVAR)] = 5.0,
    ) -> None:
        super().__init__()
        self.max_logvar = max_logvar
        if latent is None:
            if head:
                raise ConfigError("'latent' is missing. Give the latent dimension")
            latent = max(1, shape[0] // 2)
        self.latent_shape = (latent, *shape[1:])
        if head:
            self.weight = nn.Parameter(torch.empty(2 * latent, shape[0]))
            self.bias = nn.Parameter(torch.empty(2 * latent))
        elif shape[0] != 2 * latent:
            raise ShapeError(
                f"expected {2 * latent} feature channels for latent: {latent} without a head, got {shape_text(shape)}"
            )
        self.head = head
        self.reset()

    def posterior(self, features: Tensor) -> GaussianPosterior:
        """Posterior q(z | x) of features, (batch, *features), in float32 or wider."""
        if self.head:
            features = project(features, self.weight, self.bias)
        mean, logvar = at_least_float32(features).chunk(2, dim=1)
        # Clamped values keep their gradient, so that they can return to the range.
        return GaussianPosterior(mean, with_gradient_of(logvar.clamp(MIN_LOGVAR, self.max_logvar), logvar))

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the head, with small weights for the log-variance."""
        if self.head:
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(self.weight.shape[1]))
            self.weight[self.weight.shape[0] // 2 :] *= LOGVAR_SCALE
            self.bias.zero_()
