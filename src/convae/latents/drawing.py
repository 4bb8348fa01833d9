"""Sampling from the prior with temperature and truncation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Latents
from convae.model.priors.standard_normal import StandardNormal
from convae.model.vae import VAE

LEAST_TRUNCATION = 0.1
"""Smallest truncation; below it, nearly all values would be rejected."""


@torch.no_grad()
def draw_latents(
    model: VAE,
    count: int,
    *,
    seed: int = 0,
    temperature: float | Sequence[float] = 1.0,
    truncation: float | None = None,
    labels: Tensor | None = None,
    first: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Latents:
    """Samples `count` latents from the prior; sample n is the same for any count.

    Args:
        model: model with the prior.
        count: number of samples.
        seed: random seed.
        temperature: factor on the standard deviation, below 1 closer to the mean of the prior: one for all latents, or
            one for each latent of a hierarchy, from the top.
        truncation: values beyond it, in standard deviations, are resampled (Brock, Donahue & Simonyan 2018).
        labels: (count,) class numbers, for a prior or a conditional hierarchy whose latents depend on the class.
        first: index of the first sample.
        options: options of the prior's own, such as `{"top_p": 0.9}`.

    Raises:
        ConfigError: temperature or truncation out of range, or not supported by the prior.
    """
    factors = _checked_factors(model, temperature)
    _check_truncation(model, truncation)
    generators = [torch_generator(seed, "sample", number) for number in range(first, first + count)]
    if model.is_hierarchical:
        return model.sample_latents(
            count,
            generators,
            labels,
            dict(zip([name for name, _ in model.latent_layout.entries], factors, strict=True)),
            options,
        )
    if not isinstance(model.prior, StandardNormal):
        return model.sample_latents(count, generators, labels, factors[0], options)
    z = model.sample_latents(count, generators, options=options)
    if truncation is not None:
        z = torch.stack([_truncated(row, own, truncation) for row, own in zip(z, generators, strict=True)])
    return z * factors[0]


def _checked_factors(model: VAE, temperature: float | Sequence[float]) -> list[float]:
    """The temperature of each latent of a model.

    Raises:
        ConfigError: out of range, of another number than the latents, or the prior has none.
    """
    count = len(model.latent_layout.entries)
    factors = [float(temperature)] * count if isinstance(temperature, int | float) else list(temperature)
    if not all(0 <= each < float("inf") for each in factors):
        raise ConfigError(f"temperature must be at least 0, got {', '.join(f'{each:g}' for each in factors)}")
    if len(factors) != count:
        each = f", or one for each of {count} latents" if count > 1 else ""
        raise ConfigError(f"temperature needs one number{each}, got {len(factors)}")
    if set(factors) != {1} and not _has_temperature(model):
        raise ConfigError(f"the prior of model '{model.name}' is uniform and has no temperature")
    return factors


def _check_truncation(model: VAE, truncation: float | None) -> None:
    """Checks that the prior of a model can be truncated.

    Raises:
        ConfigError: out of range, or the prior is not the standard normal one of a single latent.
    """
    if truncation is None:
        return
    if not truncation >= LEAST_TRUNCATION:
        raise ConfigError(f"truncation must be at least {LEAST_TRUNCATION:g} standard deviations, got {truncation:g}")
    if model.is_hierarchical:
        raise ConfigError(f"truncation needs a single latent, and model '{model.name}' has several. Use temperature")
    if any(each.is_discrete for each in model.latent_modules):
        raise ConfigError(f"truncation needs a Gaussian prior, which model '{model.name}' does not have")
    if not isinstance(model.prior, StandardNormal):
        raise ConfigError(f"truncation needs the prior standard-normal, which model '{model.name}' does not have")


def _has_temperature(model: VAE) -> bool:
    """Whether the priors of all latents of a model have a temperature."""
    covered = model.prior.latents
    return model.prior.has_temperature and not any(
        each.is_discrete for each in model.latent_modules if each not in covered
    )


def _truncated(z: Tensor, generator: torch.Generator, truncation: float) -> Tensor:
    """Resamples the values of `z` beyond `truncation`."""
    while (beyond := z.abs() > truncation).any():
        again = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=generator.device).to(z.device)
        z = torch.where(beyond, again, z)
    return z
