"""Latent traversals along dimensions, and grids over planes."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import ConfigError
from convae.latents.encoding import Encoding
from convae.latents.quantized import require_continuous
from convae.model.vae import VAE

TAIL = 0.02
"""Fraction of the images beyond each end of a traversal."""


def kl_per_dimension(encoding: Encoding) -> Float[Tensor, " value"]:
    """Mean KL divergence of each latent dimension from its prior over the images, nats.

    That is N(0, 1), unless `encoding.kl` of a hierarchy is known; of models with another prior or posterior, only the
    order is of use, see `has_kl_per_dimension`.

    Raises:
        ConfigError: the latents are codes, whose values have none.
    """
    require_continuous(encoding, "the KL divergence of each latent value")
    if encoding.kl is not None:
        return encoding.kl.flatten()
    kl = 0.5 * (encoding.mean.square() + torch.expm1(encoding.logvar) - encoding.logvar)
    return kl.flatten(1).double().mean(0)


def has_kl_per_dimension(model: VAE) -> bool:
    """Whether the KL divergence of a model is the sum of `kl_per_dimension`: of diagonal Gaussians from N(0, 1)."""
    return all(module.is_diagonal for module in model.latent_modules) and model.prior.has_closed_kl


def rank_by_kl(encoding: Encoding) -> Int64[Tensor, " value"]:
    """The latent dimensions, highest KL divergence first."""
    return kl_per_dimension(encoding).argsort(descending=True, stable=True)


def _quantiles(values: Tensor, count: int) -> Tensor:
    """`count` quantiles at even distances, (count, column)."""
    # torch.quantile takes 16 million values at most.
    return torch.from_numpy(np.quantile(values.double().numpy(), np.linspace(TAIL, 1 - TAIL, count), axis=0))


def traverse(
    z: Float[Tensor, "*latent"], encoding: Encoding, values: Int64[Tensor, " rows"], steps: int
) -> Float[Tensor, "rows steps *latent"]:
    """Latent traversals: one row per dimension, at its quantiles over the images, with all others fixed.

    Args:
        z: the latent to start from.
        encoding: images whose posterior means give the quantiles, from 2% to 98%.
        values: dimensions of the flattened latent, such as the first of `rank_by_kl`.
        steps: latents per row.

    Raises:
        ConfigError: fewer than two steps, or the latents are codes.
    """
    require_continuous(encoding, "a traversal")
    if steps < 2:
        raise ConfigError(f"expected at least 2 steps, got {steps}")
    ranges = _quantiles(encoding.mean.flatten(1)[:, values], steps).to(z.dtype)
    rows = z.flatten().repeat(len(values), steps, 1)
    for row, value in enumerate(values.tolist()):
        rows[row, :, value] = ranges[:, row]
    return rows.view(len(values), steps, *z.shape)


def find_principal_directions(encoding: Encoding) -> tuple[Tensor, Tensor]:
    """The mean of the posterior means, (value,), and their first two principal components, (2, value), in float64.

    Signs are chosen so that the largest value of each is positive.
    """
    points = encoding.mean.flatten(1).double()
    mean = points.mean(0)
    directions = torch.linalg.eigh(torch.cov(points.T).reshape(points.shape[1], -1)).eigenvectors[:, -2:].flip(1).T
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return mean, directions * largest.sign()


def build_latent_grid(
    encoding: Encoding, steps: int, axes: tuple[int, int] | None = None
) -> Float[Tensor, "down across *latent"]:
    """A grid of latents on a plane: the first direction to the right, the second upwards; a row for one dimension.

    Grid lines are at quantiles of the posterior means, from 2% to 98%.

    Args:
        encoding: encoding of the images.
        steps: latents per side.
        axes: two dimensions of the flattened latent, with the others at their mean; by default both dimensions of a
            two-dimensional latent, otherwise the first two principal components.

    Raises:
        ConfigError: fewer than two steps or images, invalid axes, or latents that are codes.
    """
    require_continuous(encoding, "a manifold")
    points = encoding.mean.flatten(1).double()
    size = points.shape[1]
    if steps < 2 or len(points) < 2:
        raise ConfigError(f"expected at least 2 images and 2 steps, got {len(points)} and {steps}")
    if size == 1 and axes is None:
        return _quantiles(points, steps).to(encoding.mean.dtype).view(1, steps, *encoding.mean.shape[1:])
    if axes is None and size == 2:
        axes = (0, 1)
    if axes is None:
        mean, directions = find_principal_directions(encoding)
    else:
        if len(set(axes)) != 2 or not all(0 <= axis < size for axis in axes):
            raise ConfigError(f"expected two different axes from 0 to {size - 1}, got {axes}")
        mean, directions = points.mean(0), torch.eye(size, dtype=torch.float64)[list(axes)]
    lines = _quantiles((points - mean) @ directions.T, steps)
    right, up = lines[:, 0], lines[:, 1].flip(0)
    grid = mean + up[:, None, None] * directions[1] + right[None, :, None] * directions[0]
    return grid.to(encoding.mean.dtype).view(steps, steps, *encoding.mean.shape[1:])
