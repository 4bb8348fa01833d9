"""Sampling from the prior with temperature and truncation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Latents
from convae.model.priors.standard_normal import StandardNormal
from convae.model.vae import VAE

LEAST_TRUNCATION = 0.1
"""Smallest truncation; below it, nearly all values would be rejected."""


def draw(
    model: VAE,
    count: int,
    *,
    seed: int = 0,
    temperature: float | Sequence[float] = 1.0,
    truncation: float | None = None,
    labels: Tensor | None = None,
    first: int = 0,
) -> Latents:
    """Samples `count` latents from the prior; sample n is the same for any count.

    Args:
        model: model with the prior.
        count: number of samples.
        seed: random seed.
        temperature: factor on the standard deviation, below 1 closer to the mean of the prior: one for all latents, or
            one for each latent of a hierarchy, from the top.
        truncation: values beyond it, in standard deviations, are resampled (Brock, Donahue & Simonyan 2018).
        labels: (count,) class numbers, for a conditional hierarchy, whose latents depend on the class.
        first: index of the first sample.

    Raises:
        ConfigError: temperature or truncation out of range, or not supported by the prior.
    """
    names = [name for name, _ in model.latent_layout.entries]
    factors = [temperature] * len(names) if isinstance(temperature, int | float) else list(temperature)
    if not all(0 <= each < float("inf") for each in factors):
        raise ConfigError(f"temperature must be at least 0, got {', '.join(f'{each:g}' for each in factors)}")
    if len(factors) != len(names):
        each = f", or one for each of {len(names)} latents" if len(names) > 1 else ""
        raise ConfigError(f"temperature needs one number{each}, got {len(factors)}")
    if truncation is not None and not truncation >= LEAST_TRUNCATION:
        raise ConfigError(f"the truncation is at least {LEAST_TRUNCATION:g} standard deviations, got {truncation:g}")
    if truncation is not None and model.is_hierarchical:
        raise ConfigError(f"'{model.name}' has several latents, which have no truncation. Use temperature")
    if (set(factors) != {1} or truncation is not None) and any(each.is_discrete for each in model.latent_modules):
        raise ConfigError(f"the prior of '{model.name}' is no Gaussian: it has no temperature and no truncation")
    generators = [torch_generator(seed, "sample", number) for number in range(first, first + count)]
    if model.is_hierarchical:
        return model.sample_latents(count, generators, labels, dict(zip(names, factors, strict=True)))
    if not isinstance(model.prior, StandardNormal):
        if truncation is not None:
            raise ConfigError(f"truncation needs the prior standard-normal, which '{model.name}' does not have")
        return model.sample_latents(count, generators, labels, factors[0])
    z = model.sample_latents(count, generators)
    if truncation is not None:
        z = torch.stack([_truncated(row, own, truncation) for row, own in zip(z, generators, strict=True)])
    return z * factors[0]


def _truncated(z: Tensor, generator: torch.Generator, truncation: float) -> Tensor:
    """Resamples the values of `z` beyond `truncation`."""
    while (beyond := z.abs() > truncation).any():
        again = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=generator.device).to(z.device)
        z = torch.where(beyond, again, z)
    return z
