"""Directions in latent space: what is added to a latent to change one thing about its image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import DataError
from convae.core.types import Latents


def direction(without: Latents, having: Tensor) -> Float[Tensor, "*latent"]:
    """The mean of the latents that have something, minus the mean of those without it.

    For pairs of images this is the mean of the pairs' differences.

    Raises:
        DataError: there are none of one kind, or both have the same mean.
    """
    if not len(without) or not len(having):
        raise DataError("a direction needs latents with and without what it stands for")
    found = having.mean(0) - without.mean(0)
    if not found.any():
        raise DataError("the latents with and without it have the same mean, so there is no direction between them")
    return found


def direction_of_label(
    z: Latents, labels: Int64[Tensor, " batch"], label: int, against: int | None = None
) -> Float[Tensor, "*latent"]:
    """The direction to one class, from another or from all other labeled images.

    Raises:
        DataError: no image has one of the labels.
    """
    others = (labels >= 0) & (labels != label) if against is None else labels == against
    for wanted, found in ((label, labels == label), (against, others)):
        if not found.any():
            raise DataError(f"no image has the label {wanted}" if wanted is not None else "all images have one label")
    return direction(z[others], z[labels == label])


def translate(
    z: Latents, by: Float[Tensor, "*latent"], strengths: Sequence[float]
) -> Float[Tensor, "batch strengths *latent"]:
    """Each latent moved by each of the strengths times the direction; a strength of 0 leaves it as it is."""
    factors = torch.tensor(strengths, dtype=z.dtype, device=z.device).view(1, -1, *(1,) * by.ndim)
    return z[:, None] + factors * by
