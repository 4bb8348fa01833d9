"""Fréchet distance of samples."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.evaluation.distances import frechet
from convae.evaluation.metrics.base import Estimate, SampleMetric


class FD(SampleMetric):
    """Squared Fréchet distance between features of the images and of as many samples (Heusel et al. 2017).

    Reported as `fd-<network>`, without an interval: the value depends on the number of images, and resampled sets
    have fewer different ones.
    """

    unit: ClassVar = "squared feature units"
    better: ClassVar = "lower"

    def measure(self, real: Tensor, drawn: Tensor, seed: int) -> Estimate:
        """The distance."""
        return Estimate(frechet(real, drawn), None)
