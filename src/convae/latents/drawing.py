"""Latents from the prior, as daring or as careful as one likes."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Latents
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.vae import VAE

LEAST_TRUNCATION = 0.1
"""Below it, hardly any drawn value would ever be kept."""


def draw(
    model: VAE,
    count: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    truncation: float | None = None,
    first: int = 0,
) -> Latents:
    """`count` latents from the prior; the n-th of them is the same for any count.

    Args:
        model: whose prior it is.
        count: how many.
        seed: of what is drawn.
        temperature: the factor of the standard deviation; below 1 nearer to the middle of the prior.
        truncation: values beyond it, in standard deviations, are drawn again (Brock, Donahue & Simonyan 2018).
        first: number of the first.

    Raises:
        ConfigError: temperature or truncation out of range, or asked of a prior that is no Gaussian.
    """
    if not 0 <= temperature < float("inf"):
        raise ConfigError(f"the temperature is a number of at least 0, got {temperature:g}")
    if truncation is not None and not truncation >= LEAST_TRUNCATION:
        raise ConfigError(f"the truncation is at least {LEAST_TRUNCATION:g} standard deviations, got {truncation:g}")
    if (temperature != 1 or truncation is not None) and not isinstance(model.bottleneck, Gaussian):
        raise ConfigError(f"the prior of '{model.name}' is no Gaussian: it has no temperature and no truncation")
    generators = [torch_generator(seed, "sample", number) for number in range(first, first + count)]
    z = model.sample_latents(count, generators)
    if truncation is not None:
        z = torch.stack([_truncated(row, own, truncation) for row, own in zip(z, generators, strict=True)])
    return z * temperature


def _truncated(z: Tensor, generator: torch.Generator, truncation: float) -> Tensor:
    """`z` with each value beyond `truncation` drawn again until it is within."""
    while (beyond := z.abs() > truncation).any():
        again = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=generator.device).to(z.device)
        z = torch.where(beyond, again, z)
    return z
