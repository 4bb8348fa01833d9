"""Images that a model explains badly, and where in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.progress import Progress
from convae.core.types import Images, PerImage
from convae.data import Batch, Split, in_order
from convae.model.vae import VAE


@torch.no_grad()
def anomaly_scores(
    model: VAE, split: Split, *, batch_size: int = 256, progress: Progress | None = None
) -> Float[Tensor, " image"]:
    """−log p(x | z) + KL of each image at the posterior's mean, nats: high for what the model has not learned.

    Raises:
        ShapeError: the images have not the model's shape.
    """
    if split.shape != model.input_shape:
        raise ShapeError(f"the model takes {shape_text(model.input_shape)}, the images are {shape_text(split.shape)}")
    model.check_labels(split.labels, split.source)
    model.eval()
    scores = []
    done = 0
    for batch in in_order(split, batch_size, next(model.parameters()).device):
        scores.append(_score(model, batch).cpu())
        done += len(batch)
        if progress:
            progress(done, len(split), "scoring (images)")
    return torch.cat(scores)


def _score(model: VAE, batch: Batch) -> PerImage:
    posterior = model.encode(batch.images, batch.labels)
    return posterior.kl() - model.decode(posterior.mean, batch.labels).log_prob(batch.images)


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
    model.eval()
    device = next(model.parameters()).device
    (batch,) = in_order(split, len(indices), device, np.asarray(indices, np.int64))
    decoded = model.decode(model.encode(batch.images, batch.labels).mean, batch.labels).mean.cpu()
    images = batch.images.cpu()
    return Anomaly(images, decoded, (images - decoded).abs().mean(1))
