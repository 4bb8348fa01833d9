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

_EPSILON = 1e-11
"""Added to importances; keeps logarithms finite."""


class DCI(FactorMetric):
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Gradient-boosted trees, trained on two thirds of the images, predict each factor from the latent values.
    *Disentanglement* is 1 − the normalized entropy of the importances of a latent value over factors, averaged over
    latent values in proportion to their importance; *completeness* is 1 − that of a factor over latent values.
    *Informativeness* is the accuracy on the other images, averaged over factors. 10,000 images take minutes.

    Args:
        factors: columns that are factors; by default all.
        images: maximum number of images to use.
    """

    unit: ClassVar = "1"
    better: ClassVar = "higher"
    per_value: ClassVar = True
    example: ClassVar = {"factors": ("shape", "color"), "images": 120}

    def __init__(self, *, factors: tuple[str, ...] | None = None, images: Positive = 15_000) -> None:
        super().__init__(factors=factors)
        self.images = images

    def measure(self, latents: NDArray[np.float64], factors: Factors, seed: int) -> Mapping[str, float]:
        """Disentanglement, completeness and informativeness."""
        from sklearn.ensemble import GradientBoostingClassifier

        (trained, known), (tested, held_out) = train_and_test(latents, factors, self.images, seed)
        importances, accuracies = [], []
        for train_factor, test_factor in zip(known.values.T, held_out.values.T, strict=True):
            trees = GradientBoostingClassifier(random_state=seed % 2**32).fit(trained, train_factor)
            importances.append(trees.feature_importances_)
            accuracies.append(np.mean(trees.predict(tested) == test_factor))
        importance = np.stack(importances, 1)
        return {
            "disentanglement": _one_minus_entropy(importance),
            "completeness": _one_minus_entropy(importance.T),
            "informativeness": float(np.mean(accuracies)),
        }


def _one_minus_entropy(importance: NDArray[np.float64]) -> float:
    """1 − the normalized entropy of each row, averaged over rows in proportion to their sums."""
    smoothed = importance + _EPSILON
    fractions = smoothed / smoothed.sum(1, keepdims=True)
    each = 1 + (fractions * np.log(fractions)).sum(1) / np.log(fractions.shape[1])
    total = importance.sum()
    weights = importance.sum(1) / total if total else np.full(len(importance), 1 / len(importance))
    return float((each * weights).sum())
