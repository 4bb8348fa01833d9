"""How many samples look real."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from convae.core.arguments import Positive
from convae.evaluation.distances import covered
from convae.evaluation.metrics.base import Estimate, SampleMetric, estimate_from_rows


class Precision(SampleMetric):
    """Fraction of samples within the estimated manifold of the images: fidelity of the samples.

    Kynkäänniemi et al. 2019 (arXiv:1904.06991).

    Args:
        k: the neighbor whose distance is the radius of a ball.
    """

    unit: ClassVar = "fraction"
    better: ClassVar = "higher"

    def __init__(self, *, k: Positive = 3) -> None:
        self.k = k

    def measure(self, real: Tensor, drawn: Tensor, seed: int) -> Estimate:
        """The fraction, with its bootstrap interval."""
        return estimate_from_rows(covered(drawn, real, self.k).double(), seed)
