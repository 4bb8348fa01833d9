"""Latents to images."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from convae.core.errors import DataError, ShapeError
from convae.core.types import Images, Latents
from convae.model.compatibility import check_labels
from convae.model.condition import Labels
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE


@torch.no_grad()
def decode(
    model: VAE, z: Latents, *, labels: Labels | None = None, levels: int | None = None, batch_size: int = 256
) -> Images:
    """The expected image of each latent, in [0, 1], on the CPU.

    Args:
        model: is left in the mode that it is in.
        z: latents, of any floating type.
        labels: of the images, for a conditional model.
        levels: number of latents of a hierarchy, from the top, that are taken from `z`; the others are the mean of
            their prior. Without it, all are taken.
        batch_size: latents at a time.

    Raises:
        ShapeError: the latents do not have the model's latent shape.
        ConfigError: the model is conditional, and the labels are not such as it knows.
        DataError: a latent is not finite.
    """
    found = list(iterate_decoded(model, z, labels=labels, levels=levels, batch_size=batch_size))
    return torch.cat(found) if found else torch.empty(0, *model.input_shape)


@torch.no_grad()
def iterate_decoded(
    model: VAE, z: Latents, *, labels: Labels | None = None, levels: int | None = None, batch_size: int = 256
) -> Iterator[Images]:
    """`decode`, a batch at a time, for more images than fit into memory."""
    if not z.is_floating_point():
        raise ShapeError(f"latents are floats, got {z.dtype}: model.decode_codes takes the numbers of codes")
    wrong = (~z.flatten(1).isfinite().all(1)).nonzero()[:, 0] if z.numel() else z[:0]
    if len(wrong):
        raise DataError(f"{len(wrong)} of {len(z)} latents are not finite, the first is number {int(wrong[0])}")
    parameter = next(model.parameters())
    if labels is not None:
        check_labels(model, labels.numpy(), "the latents")
    for start in range(0, len(z), batch_size):
        here = slice(start, start + batch_size)
        part = z[here].to(parameter.device, parameter.dtype)
        with evaluation_mode(model):
            known = None if labels is None else labels[here].to(parameter.device)
            images = model.decode(part, known, levels=levels).mean.cpu()
        yield images
