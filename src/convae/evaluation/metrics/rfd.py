"""Fréchet distance of reconstructions."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.evaluation.distances import frechet_distance
from convae.evaluation.jackknife import jackknife_interval
from convae.evaluation.metrics.base import Estimate, ReconstructionMetric


class RFD(ReconstructionMetric):
    """Squared Fréchet distance between features of images and of their reconstructions at the posterior mean.

    Reported as `rfd-<network>`, or `rfid` with the published Inception weights. The interval, from 100 images on, is
    that of the delete-group jackknife, for the expected value at this number of images.
    """

    unit: ClassVar = "squared feature units"
    better: ClassVar = "lower"

    def measure(self, real: Tensor, other: Tensor, seed: int) -> Estimate:
        """The distance and its interval."""
        value = frechet_distance(real, other)
        ends = jackknife_interval(lambda kept: frechet_distance(real[kept], other[kept]), value, len(real), seed)
        return Estimate(value, ends and (max(ends[0], 0.0), ends[1]))
