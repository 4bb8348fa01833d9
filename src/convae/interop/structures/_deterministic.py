"""Published autoencoders whose latents have no distribution."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import NonNegative
from convae.core.errors import ConfigError
from convae.core.types import Shape
from convae.interop.structures.base import Structure
from convae.model.bottlenecks.deterministic import Deterministic
from convae.model.vae import VAE

SIZE = 512
"""Image size, which is not in the configuration."""
Counts = Annotated[tuple[Annotated[NonNegative, Field(le=1_000)], ...], Field(min_length=1, max_length=16)]
"""Number of blocks of each stage."""


class DeterministicStructure(Structure):
    """A published autoencoder with a deterministic bottleneck."""

    _images: Shape
    """(channels, *sizes) of the images."""

    @property
    def input(self) -> Shape:
        """Square images of 512 pixels."""
        return self._images

    def bottleneck(self) -> dict[str, Any]:
        """A deterministic bottleneck without a head."""
        return {"deterministic": {"head": False}}


def require_deterministic(model: VAE) -> None:
    """Checks that the bottleneck is deterministic, without a head, with a latent map.

    Raises:
        ConfigError: it is another one.
    """
    bottleneck = model.bottleneck
    if not isinstance(bottleneck, Deterministic) or bottleneck.head or len(bottleneck.latent_shape) != 3:
        raise ConfigError("bottleneck: expected deterministic with head: false and a latent map")
