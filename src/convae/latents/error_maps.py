"""Error maps: where images differ from their reconstructions."""

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
class ErrorMaps:
    """Images, their reconstructions and error maps.

    Attributes:
        images: (batch, channel, *sizes) in [0, 1].
        reconstructions: (batch, channel, *sizes) in [0, 1].
        errors: (batch, *sizes) absolute differences, averaged over the channels; 0 of missing values.
    """

    images: Images
    reconstructions: Images
    errors: Float[Tensor, batch * sizes]


@torch.no_grad()
def map_errors(model: VAE, split: Split, indices: Tensor) -> ErrorMaps:
    """Error maps of the images at `indices`, with reconstructions from the posterior means."""
    device = next(model.parameters()).device
    (batch,) = in_order(split, len(indices), device, np.asarray(indices, np.int64))
    with evaluation_mode(model):
        decoded = model.decode(model.encode(batch.images, batch.labels).mean, batch.labels).mean.cpu()
    images = batch.images.cpu()
    errors = (images - decoded).abs()
    return ErrorMaps(images, decoded, (errors if batch.weights is None else errors * batch.weights.cpu()).mean(1))
