"""The bottleneck of the variational autoencoder: a diagonal Gaussian posterior."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from convae.core.arguments import Positive
from convae.core.context import Context
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.posterior import MIN_LOGVAR, GaussianPosterior
from convae.core.precision import at_least_float32, with_gradient_of
from convae.core.types import Latents, Shape
from convae.model.bottlenecks.base import Bottleneck, project

MAX_LOGVAR = 40.0
"""Largest log-variance: neither the variance, nor its inverse, nor the square of either leaves float32. Published
weights were trained without a bound, and those of torch-vae come to 22 on random noise."""
LOGVAR_SCALE = 0.1
"""By how much the log-variance half of a head is smaller at first, so that posteriors begin close to unit variance."""


class Gaussian(Bottleneck):
    """Diagonal Gaussian posterior (Kingma & Welling 2013, arXiv:1312.6114).

    Features that are a vector pass a linear layer to the mean and log-variance of a latent vector; features that
    are a map pass a 1×1 convolution to those of a latent map. Without a head, the first half of the channels is
    the mean and the second half the log-variance.

    Args:
        shape: (channels, *sizes) of the encoder's features.
        latent: latent values, or latent channels of a map; without a head it may be left out, since it is half of
            the feature channels.
        head: whether a linear map stands between the features and the posterior.
        max_logvar: largest log-variance. No posterior that is fitted is wider than the prior, whose log-variance is 0,
            but without a bound near it a single unusual image can have a KL divergence of e⁴⁰ nats, and decide every
            mean over a split.
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
                raise ConfigError("'latent' is missing: how many values the latent has")
            latent = max(1, shape[0] // 2)
        self.latent_shape = (latent, *shape[1:])
        if head:
            self.weight = nn.Parameter(torch.empty(2 * latent, shape[0]))
            self.bias = nn.Parameter(torch.empty(2 * latent))
        elif shape[0] != 2 * latent:
            raise ShapeError(
                f"needs {2 * latent} feature channels for {latent} without a head, got {shape_text(shape)}"
            )
        self.head = head
        self.reset()

    def posterior(self, features: Tensor) -> GaussianPosterior:
        """(batch, *features) to the posterior of each image, in float32 or wider."""
        if self.head:
            features = project(features, self.weight, self.bias)
        mean, logvar = at_least_float32(features).chunk(2, dim=1)
        # Clamped values keep their gradient, which leads back into the range.
        return GaussianPosterior(mean, with_gradient_of(logvar.clamp(MIN_LOGVAR, self.max_logvar), logvar))

    def forward(self, x: Tensor, context: Context | None = None) -> Latents:
        """Features, (batch, *features), to latents; reports the posterior and the term `kl` (nats per image)."""
        context = context or Context()
        posterior = self.posterior(x)
        context.report_term("kl", posterior.kl())
        return context.draw_latent(self.stream, posterior)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """A head that keeps the size of the features, its log-variance half small."""
        if self.head:
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(self.weight.shape[1]))
            self.weight[self.weight.shape[0] // 2 :] *= LOGVAR_SCALE
            self.bias.zero_()
