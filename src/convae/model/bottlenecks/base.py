"""What a bottleneck is: features in, latent out, with what it believes and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.names import shape_text
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
    sets `latent_shape`, the shape that the decoder gets, without the batch. `needs` names the terms without which an
    objective cannot train it, and `moves` the parameters that a pass in training changes by itself.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    is_quantized: ClassVar[bool] = False
    latent_shape: Shape
    needs: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        """The latent's shape, for `print(model)`."""
        return f"latent {shape_text(self.latent_shape)}"

    @property
    def codebook_size(self) -> int | None:
        """How many codes there are; None without a codebook."""
        return None

    def latent_of(self, codes: Tensor) -> Tensor:
        """(batch, *grid) numbers of codes to (batch, *latent); only with a codebook."""
        raise NotImplementedError

    def posterior(self, features: Tensor) -> Posterior:
        """What the features say of the latent."""
        raise NotImplementedError

    def forward(self, features: Tensor, generator: Generators | None = None, sample: bool = True) -> Bottled:
        """(batch, *features) to a latent, drawn from the posterior or, without `sample`, its mean."""
        raise NotImplementedError

    def draw(self, count: int, generator: Generators | None) -> Tensor:
        """`count` latents from the prior."""
        raise NotImplementedError

    def quantize(self, z: Tensor) -> Tensor:
        """The nearest latents that the bottleneck can give: `z` itself, unless it has a codebook."""
        return z

    def log_prior(self, z: Tensor) -> Tensor:
        """The prior's density at each latent, (batch,), nats."""
        raise NotImplementedError

    def reset(self, generator: torch.Generator) -> None:
        """Gives the bottleneck's parameters and buffers their initial values."""
        raise NotImplementedError


def projected(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map of the channels, the same at each place: (batch, channel, *sizes) to (batch, row, *sizes)."""
    if features.ndim == 2:
        return F.linear(features, weight, bias)
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[features.ndim]
    return convolve(features, weight.view(*weight.shape, *(1,) * (features.ndim - 2)), bias)
