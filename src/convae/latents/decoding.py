"""Latents to images."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from convae.core.types import Images, Latents
from convae.model.vae import VAE


@torch.no_grad()
def decode(model: VAE, z: Latents, *, batch_size: int = 256) -> Images:
    """The expected image of each latent, in [0, 1], on the CPU.

    Raises:
        ShapeError: the latents have not the model's latent shape.
    """
    return torch.cat(list(decoded(model, z, batch_size=batch_size)))


@torch.no_grad()
def decoded(model: VAE, z: Latents, *, batch_size: int = 256) -> Iterator[Images]:
    """`decode`, a batch at a time, for more images than fit into memory."""
    model.eval()
    device = next(model.parameters()).device
    for part in torch.split(z, batch_size):
        yield model.decode(part.to(device)).mean.cpu()
