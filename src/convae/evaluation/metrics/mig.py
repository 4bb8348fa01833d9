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
    """Mutual information gap: how much more the best latent value says about a factor than the second best.

    Chen et al. 2018, arXiv:1802.04942. The difference of the two largest I(z; v) over the latent values z, divided by
    the entropy of the factor v, averaged over the factors: 1 where each factor has one latent value of its own.

    Args:
        factors: columns that are factors; by default all.
        bins: of equal width, of each latent value.
    """

    unit: ClassVar = "1"
    better: ClassVar = "higher"

    def __init__(self, *, factors: tuple[str, ...] | None = None, bins: Positive = 20) -> None:
        super().__init__(factors=factors)
        self.bins = bins

    def measure(self, latents: NDArray[np.float64], factors: Factors, seed: int) -> Mapping[str, float]:
        """The mean over the factors."""
        return {"": float(self.gaps(latents, factors).mean())}

    def gaps(self, latents: NDArray[np.float64], factors: Factors) -> NDArray[np.float64]:
        """(factor,) the gap of each factor, relative to its entropy."""
        second, first = np.sort(information_matrix(latents, factors, self.bins), axis=0)[-2:]
        gaps: NDArray[np.float64] = (first - second) / factor_entropies(factors)
        return gaps
