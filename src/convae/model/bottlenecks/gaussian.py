"""The bottleneck of the variational autoencoder: a diagonal Gaussian posterior against a standard normal prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from convae.core.arguments import Positive
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.precision import wide, with_gradient_of
from convae.core.random import Counted
from convae.core.types import Generators, Latents, PerImage, Shape
from convae.model.bottlenecks.base import Bottled, Bottleneck, projected

LOGVAR_RANGE = (-30.0, 40.0)
"""Within this neither a variance, nor its inverse, nor the square of either, which optimisers take of gradients, leaves
float32. Published weights were trained without a bound, and those of torch-vae come to 22 on random noise."""
LOGVAR_SCALE = 0.1
"""By how much the log-variance half of a head is smaller at first, so that posteriors begin close to unit variance."""
_LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class GaussianPosterior:
    """A diagonal Gaussian over the latent of each image.

    Attributes:
        mean: (batch, *latent).
        logvar: (batch, *latent), natural logarithm of the variance.
    """

    mean: Latents
    logvar: Latents

    def sample(self, generator: Generators | None = None) -> Latents:
        """A latent drawn for each image, differentiable in mean and log-variance (Kingma & Welling 2013)."""
        return self.mean + torch.exp(0.5 * self.logvar) * _normal_like(self.mean, generator)

    def kl_values(self) -> Latents:
        """KL divergence from the standard normal prior of each latent value, nats."""
        # expm1 keeps the digits that exp(v) - 1 - v loses near v = 0.
        return 0.5 * (self.mean.square() + torch.expm1(self.logvar) - self.logvar)

    def kl(self) -> PerImage:
        """KL divergence from the standard normal prior, summed over the latent, nats per image."""
        return self.kl_values().flatten(1).sum(1)

    def log_prob(self, z: Latents) -> PerImage:
        """The density at each latent, nats."""
        scaled = (z - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (scaled + self.logvar + _LOG_TWO_PI).flatten(1).sum(1)


class Gaussian(Bottleneck):
    """Diagonal Gaussian posterior, standard normal prior (Kingma & Welling 2013, arXiv:1312.6114).

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
        max_logvar: Annotated[float, Field(ge=0, le=LOGVAR_RANGE[1])] = 5.0,
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

    def posterior(self, features: Tensor) -> GaussianPosterior:
        """(batch, *features) to the posterior of each image, in float32 or wider."""
        if self.head:
            features = projected(features, self.weight, self.bias)
        mean, logvar = wide(features).chunk(2, dim=1)
        # What is beyond the range keeps its gradient, which leads back.
        return GaussianPosterior(mean, with_gradient_of(logvar.clamp(LOGVAR_RANGE[0], self.max_logvar), logvar))

    def forward(self, features: Tensor, generator: Generators | None = None, sample: bool = True) -> Bottled:
        """The latent, its posterior and the term `kl` (nats per image)."""
        posterior = self.posterior(features)
        latent = posterior.sample(generator) if sample else posterior.mean
        return Bottled(latent, posterior, {"kl": posterior.kl()})

    def draw(self, count: int, generator: Generators | None) -> Float[Tensor, count * latent]:
        """`count` latents from the standard normal."""
        parameter = next(self.parameters(), torch.empty(0))
        return _normal_like(parameter.new_empty(count, *self.latent_shape), generator)

    def log_prior(self, z: Latents) -> PerImage:
        """The standard normal's density, nats."""
        return -0.5 * (z.square() + _LOG_TWO_PI).flatten(1).sum(1)

    def reset(self, generator: torch.Generator) -> None:
        """A head that keeps the size of the features, its log-variance half small."""
        if self.head:
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / math.sqrt(self.weight.shape[1]))
            self.weight[self.weight.shape[0] // 2 :] *= LOGVAR_SCALE
            self.bias.zero_()


def _normal_like(tensor: Tensor, generator: Generators | None) -> Tensor:
    """Standard normal values of the tensor's shape, on its device, from generators on any device.

    Values are drawn on the generator's own device, so a seed gives the same latents whatever runs the model.

    Raises:
        ShapeError: there is not one generator for each image.
    """
    if isinstance(generator, Sequence):
        if len(generator) != len(tensor):
            raise ShapeError(f"{len(tensor)} latents need as many generators, got {len(generator)}")
        return torch.stack([_normal_like(row, own) for row, own in zip(tensor, generator, strict=True)])
    if isinstance(generator, Counted):
        return generator.normal(tuple(tensor.shape), tensor.dtype).to(tensor.device)
    device = tensor.device if generator is None else generator.device
    return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype, device=device).to(tensor.device)
