"""Separated attribute predictability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convae.core.arguments import Positive
from convae.evaluation.factors import Factors
from convae.evaluation.metrics._held_out import train_and_test
from convae.evaluation.metrics.base import FactorMetric


class SAP(FactorMetric):
    """Separated attribute predictability (Kumar, Sattigeri & Balakrishnan 2018, arXiv:1711.00848).

    The difference of the two largest accuracies of linear support vector machines that predict a factor from one latent
    value, averaged over factors. Two thirds of the images are for training, the others for testing.

    Args:
        factors: columns that are factors; by default all.
        images: maximum number of images to use.
    """

    unit: ClassVar = "1"
    better: ClassVar = "higher"
    example: ClassVar = {"factors": ("shape", "color"), "images": 300}

    def __init__(self, *, factors: tuple[str, ...] | None = None, images: Positive = 15_000) -> None:
        super().__init__(factors=factors)
        self.images = images

    def measure(self, latents: NDArray[np.float64], factors: Factors, seed: int) -> Mapping[str, float]:
        """The mean over factors."""
        from sklearn.svm import LinearSVC

        (trained, known), (tested, held_out) = train_and_test(latents, factors, self.images, seed)
        accuracy = np.empty((latents.shape[1], len(factors.names)))
        for value in range(len(accuracy)):
            for factor in range(len(factors.names)):
                machine = LinearSVC(C=0.01, class_weight="balanced", random_state=seed % 2**32)
                machine.fit(trained[:, [value]], known.values[:, factor])
                accuracy[value, factor] = np.mean(machine.predict(tested[:, [value]]) == held_out.values[:, factor])
        second, first = np.sort(accuracy, axis=0)[-2:]
        return {"": float((first - second).mean())}
