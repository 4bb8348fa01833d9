"""Features of images and of samples from the prior."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.data import Split, in_order
from convae.features.networks.base import FeatureNetwork
from convae.model.vae import VAE


@torch.no_grad()
def image_and_sample_features(
    model: VAE, split: Split, features: FeatureNetwork, *, seed: int, batch_size: int, progress: Progress | None = None
) -> tuple[Float[Tensor, "image feature"], Float[Tensor, "image feature"]]:
    """Features of all images of a split, and of as many samples, on the CPU.

    A sample is the mean of p(x | z) for z from the prior. The n-th depends on the seed and n only, and for conditional
    models on the label of the n-th image.

    Raises:
        ShapeError: the feature network does not support the shape of the images.
    """
    real, drawn = torch.empty(0), torch.empty(0)
    done = 0
    for batch in in_order(split, batch_size, next(model.parameters()).device):
        generators = [torch_generator(seed, "evaluation", "sample", index) for index in batch.indices.tolist()]
        of_images, of_samples = features(batch.images), features(model.sample(len(batch), generators, batch.labels))
        if not done:
            real, drawn = (torch.empty(len(split), of_images.shape[1], dtype=of_images.dtype) for _ in range(2))
        real[done : done + len(batch)], drawn[done : done + len(batch)] = of_images, of_samples
        done += len(batch)
        if progress:
            progress(done, len(split), "comparing with samples (images)")
    return real, drawn
