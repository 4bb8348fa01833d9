"""Latent traversals along dimensions, and manifolds over planes."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import ConfigError
from convae.latents.encoding import Encoding
from convae.latents.quantized import require_continuous

TAIL = 0.02
"""Fraction of the images beyond each end of a traversal."""


def kl_per_dimension(encoding: Encoding) -> Float[Tensor, " value"]:
    """Mean KL divergence of each latent dimension from its prior over the images, nats.

    Raises:
        ConfigError: the latents are codes, whose values have none.
    """
    require_continuous(encoding, "the KL divergence of each latent value")
    if encoding.kl is not None:
        return encoding.kl.flatten()
    kl = 0.5 * (encoding.mean.square() + torch.expm1(encoding.logvar) - encoding.logvar)
    return kl.flatten(1).double().mean(0)


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
    """One row per latent dimension, which goes through its quantiles over the images while the others stay.

    Args:
        z: the latent to start from.
        encoding: of the images whose posterior means give the quantiles, from 2% to 98%.
        values: which values of the flattened latent, such as the first of `rank_by_kl`.
        steps: how many latents in a row.

    Raises:
        ConfigError: fewer than two steps, or the latents are codes.
    """
    require_continuous(encoding, "a traversal")
    if steps < 2:
        raise ConfigError(f"a traversal has at least two steps, got {steps}")
    ranges = _quantiles(encoding.mean.flatten(1)[:, values], steps).to(z.dtype)
    rows = z.flatten().repeat(len(values), steps, 1)
    for row, value in enumerate(values.tolist()):
        rows[row, :, value] = ranges[:, row]
    return rows.view(len(values), steps, *z.shape)


def principal(encoding: Encoding) -> tuple[Tensor, Tensor]:
    """The mean of the posterior means, (value,), and their two principal directions, (2, value), in float64.

    Signs are chosen so that the largest component of each is positive.
    """
    points = encoding.mean.flatten(1).double()
    middle = points.mean(0)
    directions = torch.linalg.eigh(torch.cov(points.T).reshape(points.shape[1], -1)).eigenvectors[:, -2:].flip(1).T
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return middle, directions * largest.sign()


def manifold(
    encoding: Encoding, steps: int, axes: tuple[int, int] | None = None
) -> Float[Tensor, "down across *latent"]:
    """A grid over a plane of the latent space: to the right along the first direction, upwards along the second.

    Of a latent of one value, a single row along it.

    Grid lines lie at quantiles of the posterior means, from 2% to 98%, so that they are closer where images are.

    Args:
        encoding: of the images.
        steps: latents on each side.
        axes: two values of the flattened latent, the others staying at their mean; without them the plane is that
            of the values themselves where there are two, and of the two principal directions otherwise.

    Raises:
        ConfigError: fewer than two steps or images, axes that are not there, or latents that are codes.
    """
    require_continuous(encoding, "a manifold")
    points = encoding.mean.flatten(1).double()
    size = points.shape[1]
    if steps < 2 or len(points) < 2:
        raise ConfigError(f"a manifold needs two images and two steps, got {len(points)} and {steps}")
    if size == 1 and axes is None:
        return _quantiles(points, steps).to(encoding.mean.dtype).view(1, steps, *encoding.mean.shape[1:])
    if axes is None and size == 2:
        axes = (0, 1)
    if axes is None:
        middle, directions = principal(encoding)
    else:
        if len(set(axes)) != 2 or not all(0 <= axis < size for axis in axes):
            raise ConfigError(f"a plane needs two different latent values from 0 to {size - 1}, got {axes}")
        middle, directions = points.mean(0), torch.eye(size, dtype=torch.float64)[list(axes)]
    places = _quantiles((points - middle) @ directions.T, steps)
    right, up = places[:, 0], places[:, 1].flip(0)
    grid = middle + up[:, None, None] * directions[1] + right[None, :, None] * directions[0]
    return grid.to(encoding.mean.dtype).view(steps, steps, *encoding.mean.shape[1:])
