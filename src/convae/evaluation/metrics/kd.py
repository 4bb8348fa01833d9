"""Kernel distance of samples."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.random import torch_generator
from convae.evaluation.distances import kernel
from convae.evaluation.metrics.base import Estimate, SampleMetric, estimate_from_rows


class KD(SampleMetric):
    """Squared maximum mean discrepancy between features of the images and of as many samples, unbiased.

    The mean over blocks of the sets, the images shuffled first (Bińkowski et al. 2018). The kernel is (x·y / d + 1)³.

    Args:
        block: images in a block.
    """

    unit: ClassVar = "squared discrepancy"
    better: ClassVar = "lower"

    def __init__(self, *, block: Positive = 500) -> None:
        self.block = block

    def measure(self, real: Tensor, drawn: Tensor, seed: int) -> Estimate:
        """The distance, with an interval from the bootstrap over blocks where there are several."""
        size = min(self.block, len(real))
        order = torch.randperm(len(real), generator=torch_generator(seed, "blocks"))
        pairs = zip(torch.split(real[order], size), torch.split(drawn, size), strict=True)
        found = [kernel(some, others) for some, others in pairs if len(some) == size]
        return estimate_from_rows(torch.tensor(found, dtype=torch.float64), seed)
