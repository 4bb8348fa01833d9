"""Confidence intervals by the delete-group jackknife, for statistics that depend on the number of distinct images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Tensor

from convae.core.random import torch_generator
from convae.evaluation.student_t import student_quantile

GROUPS = 20
LEAST = 5 * GROUPS
"""Smallest number of images for an interval."""


def jackknife_interval(
    statistic: Callable[[Int64[Tensor, " kept"]], float], value: float, count: int, seed: int
) -> tuple[float, float] | None:
    """A 95% interval of a smooth statistic of images; None with fewer than 100 images.

    The images are divided into 20 random groups, and the statistic is computed without each group (Kott 2001, "The
    Delete-a-Group Jackknife"). Unlike in bootstrap samples, no image occurs twice. The interval is for the expected
    value at this number of images.

    Args:
        statistic: of the images at these positions.
        value: of all images.
        count: number of images.
        seed: seed of the groups.
    """
    if count < LEAST:
        return None
    order = torch.randperm(count, generator=torch_generator(seed, "jackknife"))
    group = torch.empty(count, dtype=torch.long)
    group[order] = torch.arange(count) % GROUPS
    found = [statistic((group != number).nonzero()[:, 0]) for number in range(GROUPS)]
    values = torch.tensor(found, dtype=torch.float64)
    error = float(((GROUPS - 1) / GROUPS * (values - values.mean()).square().sum()).sqrt())
    margin = student_quantile(GROUPS - 1) * error
    return value - margin, value + margin
