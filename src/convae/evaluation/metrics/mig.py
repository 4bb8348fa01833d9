"""Mutual information gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.arguments import Positive
from convae.evaluation.factors import Factors
from convae.evaluation.metrics._mutual_information import factor_entropies, information_matrix
from convae.evaluation.metrics.base import FactorMetric


class MIG(FactorMetric):
    """Mutual information gap (MIG): difference of the two largest I(z; v) over latent values z for a factor v.

    Chen et al. 2018, arXiv:1802.04942. It is divided by the entropy of v, and averaged over factors: 1 if one latent
    value determines each factor, and others are independent of it.

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
        """The mean gap over factors."""
        return {"": float(self.gaps(latents, factors).mean())}

    def gaps(self, latents: NDArray[np.float64], factors: Factors) -> NDArray[np.float64]:
        """The gap of each factor divided by its entropy, (factor,)."""
        second, first = np.sort(information_matrix(latents, factors, self.bins), axis=0)[-2:]
        gaps: NDArray[np.float64] = (first - second) / factor_entropies(factors)
        return gaps
