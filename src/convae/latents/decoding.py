"""Latents to images."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from convae.core.types import Images, Latents
from convae.model.condition import Labels
from convae.model.vae import VAE


@torch.no_grad()
def decode(model: VAE, z: Latents, *, labels: Labels | None = None, batch_size: int = 256) -> Images:
    """The expected image of each latent, in [0, 1], on the CPU.

    Args:
        model: is put into evaluation mode.
        z: latents.
        labels: of the images, for a conditional model.
        batch_size: latents at a time.

    Raises:
        ShapeError: the latents have not the model's latent shape.
        ConfigError: the model is conditional, and the labels are not such as it knows.
    """
    return torch.cat(list(decoded(model, z, labels=labels, batch_size=batch_size)))


@torch.no_grad()
def decoded(model: VAE, z: Latents, *, labels: Labels | None = None, batch_size: int = 256) -> Iterator[Images]:
    """`decode`, a batch at a time, for more images than fit into memory."""
    model.eval()
    device = next(model.parameters()).device
    if labels is not None:
        model.check_labels(labels.numpy(), "the latents")
    for start in range(0, len(z), batch_size):
        here = slice(start, start + batch_size)
        yield model.decode(z[here].to(device), None if labels is None else labels[here].to(device)).mean.cpu()
