"""Features of the images of a split, of their reconstructions, and of samples from the prior."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.core.types import Batch, Images
from convae.data import Split, in_order
from convae.features.networks.base import FeatureNetwork
from convae.model.inference import InferenceEngine
from convae.model.inputs import unchecked_values

SetName = Literal["images", "samples", "reconstructions"]


@torch.no_grad()
@unchecked_values()
def compute_feature_sets(
    engine: InferenceEngine,
    split: Split,
    features: FeatureNetwork,
    sets: Collection[SetName],
    *,
    seed: int,
    batch_size: int,
    progress: Progress | None = None,
) -> dict[SetName, Tensor]:
    """Features, (image, feature) on the CPU, of all images of a split and of as many others.

    A sample is the mean of p(x | z) for z from the prior. The n-th depends on the seed and n only, and for conditional
    models on the label of the n-th image. A reconstruction is the mean of p(x | z) at the posterior mean.

    Args:
        engine: computes reconstructions; its model is in evaluation mode.
        split: the images.
        features: the network.
        sets: which sets.
        seed: of the samples.
        batch_size: images per batch.
        progress: called with the number of processed images.

    Raises:
        ShapeError: the feature network does not support the shape of the images.
    """
    found: dict[SetName, Tensor] = {}
    done = 0
    for batch in in_order(split, batch_size, next(engine.model.parameters()).device):
        for name in sets:
            here = features(_images_of(name, engine, batch, seed))
            if name not in found:
                found[name] = torch.empty(len(split), here.shape[1], dtype=here.dtype)
            found[name][done : done + len(batch)] = here
        done += len(batch)
        if progress:
            progress(done, len(split), "comparing sets of images")
    return found


def _images_of(name: SetName, engine: InferenceEngine, batch: Batch, seed: int) -> Images:
    """The images of one set for a batch of the split."""
    if name == "images":
        return batch.images
    if name == "reconstructions":
        return engine.reconstruct(batch.images, batch.labels)
    generators = [torch_generator(seed, "evaluation", "sample", index) for index in batch.indices.tolist()]
    return engine.model.sample(len(batch), generators, batch.labels)
