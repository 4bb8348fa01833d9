"""Confidence intervals by the bootstrap (Efron 1979): how much a figure would move with other images of their kind."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from convae.core.random import numpy_generator

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 1 << 22
"""Chosen images in memory at a time."""


def resampled_means(
    rows: Float64[Tensor, "image column"], seed: int, resamples: int = RESAMPLES
) -> Float64[Tensor, "resamples column"]:
    """The rows' mean over each of `resamples` sets of as many images, drawn with replacement."""
    count = len(rows)
    step = max(1, BLOCK // count)
    means = []
    for start in range(0, resamples, step):
        sets = min(step, resamples - start)
        # Numbered set by set, so that the sets depend neither on the size of a block nor on the columns.
        chosen = np.concatenate(
            [numpy_generator(seed, "bootstrap", start + number).integers(count, size=count) for number in range(sets)]
        )
        times = np.bincount(chosen + np.repeat(np.arange(sets) * count, count), minlength=sets * count)
        means.append(torch.from_numpy(times.reshape(sets, count).astype(np.float64)) @ rows / count)
    return torch.cat(means)


def interval(figures: Float64[Tensor, "resamples part"], level: float = LEVEL) -> Float64[Tensor, "2 part"]:
    """The percentile interval: the middle `level` of the resampled figures, its lower end and its upper."""
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=figures.dtype)
    return torch.quantile(figures, ends, dim=0)
