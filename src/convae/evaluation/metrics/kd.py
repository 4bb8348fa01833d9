"""Kernel distance of samples."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.random import torch_generator
from convae.evaluation.distances import kernel_distance
from convae.evaluation.metrics.base import Estimate, SampleMetric
from convae.evaluation.student_t import student_interval


class KD(SampleMetric):
    """Unbiased squared maximum mean discrepancy (MMD²) between features of images and of as many samples.

    The mean over random blocks, with the kernel (x·y / d + 1)³ for d features (Bińkowski et al. 2018,
    arXiv:1801.01401), with an interval by Student's t for several blocks. Reported as `kd-<network>`, or `kid` with the
    published Inception weights.

    Args:
        block: images per block.
    """

    unit: ClassVar = "MMD²"
    better: ClassVar = "lower"

    def __init__(self, *, block: Positive = 500) -> None:
        self.block = block

    def measure(self, real: Tensor, other: Tensor, seed: int) -> Estimate:
        """The distance, with an interval by Student's t over blocks if there are several."""
        size = min(self.block, len(real))
        generator = torch_generator(seed, "blocks")
        # Samples of conditional models have the classes of the images, which may be sorted, as in folders.
        sets = (torch.split(each[torch.randperm(len(each), generator=generator)], size) for each in (real, other))
        pairs = zip(*sets, strict=True)
        found = [kernel_distance(some, others) for some, others in pairs if len(some) == size]
        values = torch.tensor(found, dtype=torch.float64)
        return Estimate(float(values.mean()), student_interval(values))
