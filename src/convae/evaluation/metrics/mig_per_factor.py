"""Mutual information gap of each factor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.evaluation.factors import Factors
from convae.evaluation.metrics.mig import MIG


class MIGPerFactor(MIG):
    """The mutual information gap of each factor, whose mean is `mig` (Chen et al. 2018, arXiv:1802.04942).

    Args:
        factors: columns that are factors; by default all.
        bins: number of bins of each latent value.
    """

    per_value: ClassVar = True

    def measure(self, latents: NDArray[np.float64], factors: Factors, seed: int) -> Mapping[str, float]:
        """The gap of each factor."""
        return dict(zip(factors.names, self.gaps(latents, factors).tolist(), strict=True))
