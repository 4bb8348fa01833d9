"""Latent arithmetic: directions between groups of latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import DataError
from convae.core.types import Latents


def find_direction(negative: Latents, positive: Tensor) -> Float[Tensor, "*latent"]:
    """The mean of the latents with an attribute minus the mean of those without; for pairs, their mean difference.

    Args:
        negative: latents of images without the attribute.
        positive: latents of images with the attribute.

    Raises:
        DataError: one of them is empty, or both have the same mean.
    """
    if not len(negative) or not len(positive):
        raise DataError("a direction needs latents with and without the attribute")
    found = positive.mean(0) - negative.mean(0)
    if not found.any():
        raise DataError("latents with and without the attribute have the same mean, so there is no direction")
    return found


def find_class_direction(
    z: Latents, labels: Int64[Tensor, " batch"], label: int, against: int | None = None
) -> Float[Tensor, "*latent"]:
    """The direction to a class, from another class or from all other labeled images.

    Args:
        z: latents.
        labels: class number of each latent, -1 if missing.
        label: class to move towards.
        against: class to move away from; by default all others.

    Raises:
        DataError: a class has no image.
    """
    others = (labels >= 0) & (labels != label) if against is None else labels == against
    for wanted, found in ((label, labels == label), (against, others)):
        if not found.any():
            raise DataError(
                f"no image has the label {wanted}" if wanted is not None else "all images have the same label"
            )
    return find_direction(z[others], z[labels == label])


def translate(
    z: Latents, by: Float[Tensor, "*latent"], strengths: Sequence[float]
) -> Float[Tensor, "batch strengths *latent"]:
    """Each latent plus each of the strengths times the direction `by`."""
    factors = torch.tensor(strengths, dtype=z.dtype, device=z.device).view(1, -1, *(1,) * by.ndim)
    return z[:, None] + factors * by
