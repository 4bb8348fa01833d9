"""Fraction of images near samples."""

from __future__ import annotations

from torch import Tensor

from convae.evaluation.metrics.base import Estimate
from convae.evaluation.metrics.precision import Precision


class Recall(Precision):
    """Fraction of images in the estimated manifold of the samples: coverage of the data.

    Kynkäänniemi et al. 2019 (arXiv:1904.06991).

    Args:
        k: the radius of the ball around each sample is the distance to its k-th nearest neighbor.
    """

    def measure(self, real: Tensor, other: Tensor, seed: int) -> Estimate:
        """The fraction, with a bootstrap interval."""
        return super().measure(other, real, seed)
