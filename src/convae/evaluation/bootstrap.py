"""Bootstrap confidence intervals (Efron 1979, doi:10.1214/aos/1176344552)."""

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
"""Number of resampling counts in memory at a time, 8 bytes each."""


def resample_means(
    rows: Float64[Tensor, "image column"], seed: int, resamples: int = RESAMPLES
) -> Float64[Tensor, "resamples column"]:
    """The mean of rows over each of `resamples` bootstrap samples: as many images, drawn with replacement."""
    return resample_tables({"": rows}, seed, resamples)[""]


def resample_tables(
    tables: Mapping[str, Float64[Tensor, "image _"]], seed: int, resamples: int = RESAMPLES
) -> dict[str, Float64[Tensor, "resamples _"]]:
    """`resample_means` of several tables of the same images, with the same bootstrap samples for all.

    The n-th bootstrap sample depends on the seed, n, and the number of images only.
    """
    count = len(next(iter(tables.values())))
    step = min(max(1, BLOCK // count), resamples)
    means = {name: torch.empty(resamples, rows.shape[1], dtype=torch.float64) for name, rows in tables.items()}
    counts = torch.empty(step, count, dtype=torch.float64)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        for number in range(size):
            chosen = numpy_generator(seed, "bootstrap", start + number).integers(count, size=count)
            counts[number] = torch.from_numpy(np.bincount(chosen, minlength=count))
        for name, rows in tables.items():
            means[name][start : start + size] = counts[:size] @ rows / count
    return means


def percentile_interval(values: Float64[Tensor, "resamples part"]) -> Float64[Tensor, "2 part"]:
    """Lower and upper end of the percentile interval of resampled values at the confidence level `LEVEL`."""
    # torch.quantile is limited to 16 million values.
    return torch.from_numpy(np.quantile(values.numpy(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))
