"""The scale of a model's latents for a generator, measured on images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.progress import Progress
from convae.core.types import Latents
from convae.data import Split
from convae.latents.batches import iterate_batches
from convae.latents.statistics import Moments
from convae.model.inputs import unchecked_values
from convae.model.provenance import LatentScale
from convae.model.vae import VAE


@torch.no_grad()
@unchecked_values()
def measure_latent_scale(
    model: VAE,
    split: Split,
    *,
    by_channel: bool = True,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> LatentScale:
    """Mean and standard deviation of drawn latents over images and positions.

    Where the model already has the scale of patches of its latents, as FLUX.2 has, it is measured on these patches.

    Args:
        model: on any device; its mode is not changed.
        split: the images.
        by_channel: whether each channel has a mean and a standard deviation; otherwise one factor for all channels
            gives latents a standard deviation of 1, as `scaling_factor` of Stable Diffusion does.
        batch_size: images per batch.
        progress: called with the number of finished images.

    Raises:
        ConfigError: the model has several latents, or a channel has no deviation.
    """
    if model.is_hierarchical:
        raise ConfigError(f"model '{model.name}' has several latents. Only the scale of one is measured")
    known = model.provenance.latent_scale
    patch = known.patch if known is not None and by_channel else ()
    moments: Moments | None = None
    for _, batch in iterate_batches(model, split, batch_size=batch_size, progress=progress):
        parts = [to_patches(each, patch) for each in batch.drawn_moments]
        moments = moments or Moments(tuple(parts[0].shape[1:]))
        moments.add_moments(*parts)
    assert moments is not None  # a split has images
    mean, std = moments.drawn_by_channel()
    if not by_channel:
        center = sum(mean) / len(mean)
        total = math.sqrt(sum(s * s + (m - center) ** 2 for m, s in zip(mean, std, strict=True)) / len(mean))
        mean, std = [], [total]
    if not all(math.isfinite(value) and value > 0 for value in std):
        raise ConfigError("a channel of the latents is the same for all images, so its scale is undefined")
    facts = {"source": f"{split.source} {split.name}", "images": len(split)}
    if not by_channel:
        return LatentScale(factor=1 / std[0], **facts)
    return LatentScale(mean=tuple(mean), std=tuple(std), patch=patch, **facts)


def to_patches(z: Latents, patch: tuple[int, ...]) -> Tensor:
    """Latents with the positions of each patch as channels, in the order of `pixel-unshuffle`.

    Args:
        z: (batch, channel, *sizes), sizes divisible by those of the patch.
        patch: sizes of a patch; empty for none.
    """
    if not patch:
        return z
    pairs = [number for size, step in zip(z.shape[2:], patch, strict=True) for number in (size // step, step)]
    split = z.reshape(*z.shape[:2], *pairs)
    axes = len(patch)
    steps, sizes = [3 + 2 * axis for axis in range(axes)], [2 + 2 * axis for axis in range(axes)]
    moved = split.permute(0, 1, *steps, *sizes)
    return moved.reshape(z.shape[0], -1, *moved.shape[2 + axes :])
