"""Fréchet distance of samples."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.evaluation.distances import frechet_distance
from convae.evaluation.metrics.base import Estimate, SampleMetric


class FD(SampleMetric):
    """Squared Fréchet distance between features of images and of as many samples (Heusel et al. 2017).

    arXiv:1706.08500. Reported as `fd-<network>`, or `fid` with the published Inception weights. It has no confidence
    interval, since the value depends on the number of distinct images, which is smaller in bootstrap samples.
    """

    unit: ClassVar = "squared feature units"
    better: ClassVar = "lower"

    def measure(self, real: Tensor, other: Tensor, seed: int) -> Estimate:
        """The distance."""
        return Estimate(frechet_distance(real, other), None)
