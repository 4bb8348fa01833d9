"""Base class of metrics of how well classes are predicted from latents."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics.base import EncodedSplit, LatentMetric
from convae.model.vae import VAE

FOLDS = 5


class ClassificationMetric(LatentMetric):
    """Accuracy of a classifier of posterior means that is fitted to other images; unlabeled images are omitted."""

    unit: ClassVar = "fraction"
    needs: ClassVar = (
        f"labels of at least two classes, with at least {FOLDS} images each, that the encoder does not see"
    )
    better: ClassVar = "higher"
    default: ClassVar = False

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether every class has as many images as there are folds, and the model is not conditional."""
        if model.condition is not None or split.labels is None:
            return False
        counts = np.unique(split.labels[split.labels >= 0], return_counts=True)[1]
        return len(counts) > 1 and bool(counts.min() >= FOLDS)

    def unmeasurable(self, encoded: EncodedSplit) -> str | None:
        """Latents that are not finite."""
        return None if bool(encoded.mean.isfinite().all()) else "latents are not finite"

    def rows(self, encoded: EncodedSplit) -> Tensor:
        """(labeled image,): 1 for correct predictions, 0 for others."""
        assert encoded.labels is not None  # `applies` requires them
        known = encoded.labels >= 0
        points, labels = encoded.mean[known].flatten(1).double().numpy(), encoded.labels[known].numpy()
        return torch.from_numpy((self.predict(points, labels) == labels).astype(np.float64))

    @abstractmethod
    def predict(self, points: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The class of each point, predicted from other points.

        Args:
            points: (image, value).
            labels: class numbers, (image,).
        """
