"""Disentanglement, completeness and informativeness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.arguments import Positive
from convae.evaluation.factors import Factors
from convae.evaluation.metrics._held_out import train_and_test
from convae.evaluation.metrics.base import FactorMetric

_LITTLE = 1e-11
"""Added to importances, so that logarithms are finite."""


class DCI(FactorMetric):
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Gradient-boosted trees predict each factor from the latent values, trained on two thirds of the images. From the
    importance of each value for each factor follow *disentanglement*, 1 − the entropy of a value's importances over
    the factors, averaged with the value's importance as the weight, and *completeness*, 1 − that of a factor's over
    the values. *Informativeness* is the accuracy on the other images, averaged over the factors. It takes minutes for
    10,000 images.

    Args:
        factors: columns that are factors; by default all.
        images: how many are used at most.
    """

    unit: ClassVar = "1"
    better: ClassVar = "higher"
    per_value: ClassVar = True
    example: ClassVar = {"factors": ("shape", "color"), "images": 120}

    def __init__(self, *, factors: tuple[str, ...] | None = None, images: Positive = 15_000) -> None:
        super().__init__(factors=factors)
        self.images = images

    def measure(self, latents: NDArray[np.float64], factors: Factors, seed: int) -> Mapping[str, float]:
        """The three."""
        from sklearn.ensemble import GradientBoostingClassifier

        (trained, known), (tested, held_out) = train_and_test(latents, factors, self.images, seed)
        importances, right = [], []
        for wanted, other in zip(known.values.T, held_out.values.T, strict=True):
            trees = GradientBoostingClassifier(random_state=seed % 2**32).fit(trained, wanted)
            importances.append(trees.feature_importances_)
            right.append(np.mean(trees.predict(tested) == other))
        importance = np.stack(importances, 1)
        return {
            "disentanglement": _one_minus_entropy(importance),
            "completeness": _one_minus_entropy(importance.T),
            "informativeness": float(np.mean(right)),
        }


def _one_minus_entropy(importance: NDArray[np.float64]) -> float:
    """1 − the normalized entropy of each row, averaged with the sums of the rows as weights."""
    raised = importance + _LITTLE
    shares = raised / raised.sum(1, keepdims=True)
    each = 1 + (shares * np.log(shares)).sum(1) / np.log(shares.shape[1])
    total = importance.sum()
    weights = importance.sum(1) / total if total else np.full(len(importance), 1 / len(importance))
    return float((each * weights).sum())
