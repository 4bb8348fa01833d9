"""Fraction of samples near images."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.arguments import Positive
from convae.evaluation.distances import is_in_manifold
from convae.evaluation.metrics.base import Estimate, SampleMetric, estimate_from_rows


class Precision(SampleMetric):
    """Fraction of samples in the estimated manifold of the images: fidelity of the samples.

    Kynkäänniemi et al. 2019 (arXiv:1904.06991).

    Args:
        k: the radius of the ball around each image is the distance to its k-th nearest neighbor.
    """

    unit: ClassVar = "fraction"
    better: ClassVar = "higher"

    def __init__(self, *, k: Positive = 3) -> None:
        self.k = k
        self.least_images = k + 1

    def measure(self, real: Tensor, other: Tensor, seed: int) -> Estimate:
        """The fraction, with a bootstrap interval."""
        return estimate_from_rows(is_in_manifold(other, real, self.k).double(), seed)
