"""Differentiable augmentation of the images that a discriminator sees (Zhao et al. 2020, arXiv:2006.10738)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from convae.core.noise import Generators, normal_like
from convae.core.types import Images

Augmentation = Literal["color", "translation", "cutout"]
FARTHEST = 0.125
"""Largest translation, relative to the size of the image."""
CUT = 0.5
"""Size of the square that is cut out, relative to that of the image."""


def augment(batches: Sequence[Images], kinds: Sequence[Augmentation], noise: Generators | None) -> list[Images]:
    """Images with random brightness, saturation and contrast, translation, and a square cut out; differentiable.

    Args:
        batches: (batch, channel, *sizes) each; images at the same place of a batch are augmented alike.
        kinds: the augmentations to apply.
        noise: of the batch; each image has its own values.
    """
    like = batches[0]
    count = 3 + 2 * (like.ndim - 2)
    # Uniform values in (0, 1), from normal ones, of which a generator for each image is at hand.
    values = torch.special.ndtr(normal_like(like.new_empty(len(like), count, dtype=torch.float32), noise))
    return [_augmented(images, kinds, values) for images in batches]


def _augmented(images: Images, kinds: Sequence[Augmentation], values: Tensor) -> Images:
    """Images augmented by values in (0, 1), (batch, value)."""
    axes = images.ndim - 2
    if "color" in kinds:
        images = _colored(images, values[:, :3])
    for axis in range(axes):
        if "translation" in kinds:
            images = _translated(images, axis + 2, values[:, 3 + axis])
    return _cut(images, values[:, 3 + axes :]) if "cutout" in kinds else images


def _colored(images: Images, values: Tensor) -> Images:
    """Brightness ± 0.5, saturation 0 to 2, contrast 0.5 to 1.5."""
    brightness, saturation, contrast = (value.view(-1, *(1,) * (images.ndim - 1)) for value in values.unbind(1))
    images = images + brightness - 0.5
    gray = images.mean(1, keepdim=True)
    images = gray + 2 * saturation * (images - gray)
    mean = images.mean(tuple(range(1, images.ndim)), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


def _translated(images: Images, axis: int, values: Tensor) -> Images:
    """Images moved along an axis by up to 1/8 of its size; black comes in."""
    size = images.shape[axis]
    most = int(FARTHEST * size + 0.5)
    move = (values * (2 * most + 1)).floor().long().clamp_max(2 * most) - most
    places = torch.arange(size, device=images.device) - move[:, None]
    shape = [len(images), *(size if own == axis else 1 for own in range(1, images.ndim))]
    is_inside = ((places >= 0) & (places < size)).view(shape)
    moved = images.gather(axis, places.clamp(0, size - 1).view(shape).expand_as(images))
    return torch.where(is_inside, moved, 0)


def _cut(images: Images, values: Tensor) -> Images:
    """Images with a black box of half their size at a random place, in part outside."""
    is_cut = torch.ones((), dtype=torch.bool, device=images.device)
    for axis, value in enumerate(values.unbind(1), start=2):
        size = images.shape[axis]
        begin = (value * (size + 1)).floor()[:, None] - int(CUT * size / 2)
        places = torch.arange(size, device=images.device)
        inside = (places >= begin) & (places < begin + int(CUT * size))
        is_cut = is_cut & inside.view([len(images), *(size if own == axis else 1 for own in range(1, images.ndim))])
    return torch.where(is_cut, 0, images)
