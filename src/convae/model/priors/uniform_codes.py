"""The uniform prior over codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from convae.core.errors import ConfigError, ShapeError
from convae.core.names import count_text
from convae.core.noise import Generators, draw_integers, single_generator
from convae.core.posterior import Posterior
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck
from convae.model.priors.base import Prior


class UniformCodes(Prior):
    """Uniform prior over the codes at each position (van den Oord et al. 2017, arXiv:1711.00937).

    Raises:
        ConfigError: the bottleneck has no codebook.
    """

    has_closed_kl: ClassVar = True
    draws_codes: ClassVar = True
    has_temperature: ClassVar = False

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__(bottleneck)
        if not bottleneck.codebook_sizes:
            raise ConfigError("the bottleneck has no codebook. Use the bottleneck codes")
        self.codebook_sizes = bottleneck.codebook_sizes

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Code indices, (count, *code shape); the temperature has no effect on a uniform distribution."""
        if isinstance(noise, Sequence):
            if len(noise) != count:
                raise ShapeError(f"expected one generator for each of {count_text(count, 'latent')}, got {len(noise)}")
            codes = torch.cat([self._draw(1, own) for own in noise])
        else:
            codes = self._draw(count, single_generator(noise, "codes"))
        return codes.to(self.like.device)

    def _draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Code indices, (count, *code shape), level by level."""
        grid = (count, *self.latent_shape[1:])
        levels = [draw_integers(size, grid, generator) for size in self.codebook_sizes]
        return torch.stack(levels, 1).view(count, *self.code_shape)

    def log_prob(self, z: Latents) -> PerImage:
        """−log(codebook size), summed over levels and positions, nats."""
        nats = sum(math.log(size) for size in self.codebook_sizes)
        return z.new_full((len(z),), -math.prod(z.shape[2:]) * nats)

    def relate(self, posterior: Posterior, latent: Latents) -> Posterior:
        """The posterior as it is: the divergence of codes is constant."""
        return posterior
