"""Confidence intervals by the bootstrap (Efron 1979): how much a value would vary with other images of their kind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from convae.core.random import numpy_generator

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 1 << 21
"""Counts of how often an image is chosen that are in memory at a time, 8 bytes each."""


def resampled_means(
    rows: Float64[Tensor, "image column"], seed: int, resamples: int = RESAMPLES
) -> Float64[Tensor, "resamples column"]:
    """The rows' mean over each of `resamples` sets of as many images, drawn with replacement."""
    return resampled_together({"": rows}, seed, resamples)[""]


def resampled_together(
    tables: Mapping[str, Float64[Tensor, "image _"]], seed: int, resamples: int = RESAMPLES
) -> dict[str, Float64[Tensor, "resamples _"]]:
    """`resampled_means` of several tables of the same images, over the same sets for all of them.

    Sets are numbered one by one, so that they depend neither on the size of a block nor on the columns.
    """
    count = len(next(iter(tables.values())))
    step = min(max(1, BLOCK // count), resamples)
    means = {name: torch.empty(resamples, rows.shape[1], dtype=torch.float64) for name, rows in tables.items()}
    times = torch.empty(step, count, dtype=torch.float64)
    for start in range(0, resamples, step):
        sets = min(step, resamples - start)
        for number in range(sets):
            chosen = numpy_generator(seed, "bootstrap", start + number).integers(count, size=count)
            times[number] = torch.from_numpy(np.bincount(chosen, minlength=count))
        for name, rows in tables.items():
            means[name][start : start + sets] = times[:sets] @ rows / count
    return means


def interval(values: Float64[Tensor, "resamples part"], level: float = LEVEL) -> Float64[Tensor, "2 part"]:
    """The percentile interval: the middle `level` of the resampled values, its lower end and its upper."""
    # torch.quantile takes 16 million values at most.
    return torch.from_numpy(np.quantile(values.numpy(), [(1 - level) / 2, (1 + level) / 2], axis=0))
