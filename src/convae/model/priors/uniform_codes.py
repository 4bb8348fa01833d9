"""The uniform prior over codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from convae.core.errors import ConfigError, ShapeError
from convae.core.noise import Generators, draw_integers, single_generator
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck
from convae.model.priors.base import Prior


class UniformCodes(Prior):
    """Uniform prior over the codes at each position (van den Oord et al. 2017, arXiv:1711.00937).

    Raises:
        ConfigError: the bottleneck has no codebook.
    """

    draws_codes: ClassVar = True

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__(bottleneck)
        if bottleneck.codebook_size is None:
            raise ConfigError("the bottleneck has no codebook. Use the bottleneck vq")
        self.codebook_size = bottleneck.codebook_size

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Code indices, (count, *grid); the temperature has no effect on a uniform distribution."""
        grid = self.latent_shape[1:]
        if isinstance(noise, Sequence):
            if len(noise) != count:
                raise ShapeError(f"expected one generator for each of {count} latents, got {len(noise)}")
            codes = torch.stack([draw_integers(self.codebook_size, grid, own) for own in noise])
        else:
            codes = draw_integers(self.codebook_size, (count, *grid), single_generator(noise, "codes"))
        return codes.to(self.like.device)

    def log_prob(self, z: Latents) -> PerImage:
        """−log(codebook size) for each position, summed, nats."""
        return z.new_full((len(z),), -math.prod(z.shape[2:]) * math.log(self.codebook_size))
