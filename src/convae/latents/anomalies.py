"""Where in an image a model explains it badly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.types import Images
from convae.data import Split, in_order
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE


@dataclass(frozen=True)
class Anomaly:
    """An image, what the model makes of it, and where they differ.

    Attributes:
        images: (batch, channel, *sizes) in [0, 1].
        reconstructions: as `images`.
        errors: (batch, *sizes), the absolute difference, averaged over the channels.
    """

    images: Images
    reconstructions: Images
    errors: Float[Tensor, batch * sizes]


@torch.no_grad()
def explain(model: VAE, split: Split, indices: Tensor) -> Anomaly:
    """Where the images at `indices` differ from what the posterior's mean decodes to."""
    device = next(model.parameters()).device
    (batch,) = in_order(split, len(indices), device, np.asarray(indices, np.int64))
    with evaluation_mode(model):
        decoded = model.decode(model.encode(batch.images, batch.labels).mean, batch.labels).mean.cpu()
    images = batch.images.cpu()
    return Anomaly(images, decoded, (images - decoded).abs().mean(1))
