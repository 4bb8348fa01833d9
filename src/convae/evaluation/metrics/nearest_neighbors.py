"""Accuracy of nearest-neighbor classification of latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.core.arguments import Positive
from convae.evaluation.metrics._labeled import ClassificationMetric


class NearestNeighbors(ClassificationMetric):
    """Leave-one-out accuracy of k-nearest-neighbor classification, by Euclidean distance of posterior means.

    Args:
        k: number of neighbors; ties are resolved in favor of the smallest class number.
    """

    def __init__(self, *, k: Positive = 5) -> None:
        self.k = k

    def predict(self, points: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The class of most of the nearest other points."""
        from sklearn.neighbors import NearestNeighbors

        near = NearestNeighbors(n_neighbors=min(self.k, len(points) - 1)).fit(points)
        # Without an argument, `kneighbors` excludes each image from its own neighbors.
        votes = labels[near.kneighbors(return_distance=False)]
        counts = np.zeros((len(labels), labels.max() + 1), np.int64)
        np.add.at(counts, (np.arange(len(labels))[:, None], votes), 1)
        predicted: NDArray[np.int64] = counts.argmax(1)
        return predicted
