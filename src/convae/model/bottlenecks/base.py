"""What a bottleneck is: features in, latent out, with what it believes and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from convae.core.types import Generators, PosteriorLike, Shape


@runtime_checkable
class Posterior(PosteriorLike, Protocol):
    """What a bottleneck believes of the latent of each image."""

    def log_prob(self, z: Tensor) -> Tensor:
        """The density at a latent, (batch,), nats."""


@dataclass(frozen=True)
class Bottled:
    """What a bottleneck makes of a batch of features.

    Attributes:
        latent: (batch, *latent), what will be decoded.
        posterior: what the bottleneck believes of the latent of each image.
        terms: costs for each image, (batch,), unweighted: the bottleneck reports, the objective weighs.
    """

    latent: Tensor
    posterior: Posterior
    terms: dict[str, Tensor] = field(default_factory=dict)


class Bottleneck(nn.Module):
    """The narrow place between encoder and decoder.

    The constructor takes the shape of the encoder's features and its configuration as keyword-only arguments, and
    sets `latent_shape`, the shape that the decoder gets, without the batch.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    latent_shape: Shape

    def posterior(self, features: Tensor) -> Posterior:
        """What the features say of the latent."""
        raise NotImplementedError

    def forward(self, features: Tensor, generator: Generators | None, sample: bool) -> Bottled:
        """(batch, *features) to a latent, drawn from the posterior or, without `sample`, its mean."""
        raise NotImplementedError

    def draw(self, count: int, generator: Generators | None) -> Tensor:
        """`count` latents from the prior."""
        raise NotImplementedError

    def log_prior(self, z: Tensor) -> Tensor:
        """The prior's density at each latent, (batch,), nats."""
        raise NotImplementedError
