"""Statistics of the values of a split, and duplicate images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convae.core.progress import Progress
from convae.data.batches import in_order
from convae.data.splits.split import Split, digest_values

_BATCH_VALUES = 1 << 22


@dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation, minimum and maximum of each channel, for values in [0, 1]."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def statistics(split: Split, progress: Progress | None = None) -> Statistics:
    """Computes the statistics of the observed values of a split; sums are in float64, in the order of the images.

    Args:
        split: the images.
        progress: called with the number of finished images.
    """
    batch_size = max(1, _BATCH_VALUES // int(np.prod(split.shape)))
    total, squares, high, count = (torch.zeros(split.shape[0], dtype=torch.float64) for _ in range(4))
    low = torch.ones_like(high)
    done = 0
    for batch in in_order(split, batch_size):
        values = batch.images.transpose(0, 1).flatten(1).double()
        weights = torch.ones_like(values)
        if batch.weights is not None:
            weights = batch.weights.expand_as(batch.images).transpose(0, 1).flatten(1).double()
        count += weights.sum(1)
        total += (weights * values).sum(1)
        squares += (weights * values.square()).sum(1)
        low = torch.minimum(low, torch.where(weights > 0, values, 1).amin(1))
        high = torch.maximum(high, torch.where(weights > 0, values, 0).amax(1))
        done += len(batch)
        if progress is not None:
            progress(done, len(split), f"measuring {split.source} (images)")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return Statistics(mean.numpy(), std.numpy(), low.numpy(), high.numpy())


@dataclass(frozen=True)
class Duplicates:
    """Duplicates in a data set.

    Attributes:
        images: number of images with duplicates, counting every copy.
        distinct: number of distinct images among them.
        trained_on: for each held-out split, the number of its images that are training images as well.
        held_out: number of images of each held-out split.
    """

    images: int
    distinct: int
    trained_on: dict[str, int]
    held_out: dict[str, int]


def find_duplicates(parts: Mapping[str, Split]) -> Duplicates:
    """Finds duplicates by the stored values of all images.

    Args:
        parts: the splits by name.
    """
    digests = {name: digest_values(split.digests) for name, split in parts.items()}
    trained_on = digests.get("train", np.empty(0, "V32"))
    counts = np.unique(np.concatenate([*digests.values()]), return_counts=True)[1]
    held_out = [name for name in digests if name != "train"]
    return Duplicates(
        images=int(counts[counts > 1].sum()),
        distinct=int((counts > 1).sum()),
        trained_on={name: int(np.isin(digests[name], trained_on).sum()) for name in held_out},
        held_out={name: len(digests[name]) for name in held_out},
    )
