"""Modularity of a representation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.arguments import Positive
from convae.evaluation.factors import Factors
from convae.evaluation.metrics._mutual_information import information_matrix
from convae.evaluation.metrics.base import FactorMetric


class Modularity(FactorMetric):
    """Modularity: 1 if each latent value depends on one factor only (Ridgeway & Mozer 2018, arXiv:1802.05312).

    The mean over latent values of 1 − Σ I² / (max I² · (factors − 1)), where I is the mutual information with a factor
    and the sum is over all factors but that with the largest; 0 for constant latent values. The value of a latent
    without information about any factor is determined by estimation noise.

    Args:
        factors: columns that are factors; by default all.
        bins: number of bins of each latent value.
    """

    unit: ClassVar = "1"
    better: ClassVar = "higher"

    def __init__(self, *, factors: tuple[str, ...] | None = None, bins: Positive = 20) -> None:
        super().__init__(factors=factors)
        self.bins = bins

    def measure(self, latents: NDArray[np.float64], factors: Factors, seed: int) -> Mapping[str, float]:
        """The mean over latent values."""
        squares = information_matrix(latents, factors, self.bins) ** 2
        largest = squares.max(1)
        others = (squares.sum(1) - largest) / (np.where(largest > 0, largest, 1) * (squares.shape[1] - 1))
        return {"": float(np.where(largest > 0, 1 - others, 0).mean())}
