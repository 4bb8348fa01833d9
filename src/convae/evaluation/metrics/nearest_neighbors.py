"""Accuracy of nearest-neighbor classification of latents."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from convae.core.arguments import Positive
from convae.data import Split
from convae.evaluation.metrics._labeled import has_labels_for_folds, labeled_latents
from convae.evaluation.metrics.base import EncodedSplit, LatentMetric
from convae.model.vae import VAE


class NearestNeighbors(LatentMetric):
    """Leave-one-out accuracy of k-nearest-neighbor classification, by Euclidean distance of posterior means.

    Args:
        k: number of neighbors; ties are resolved in favor of the smallest class number.
    """

    unit: ClassVar = "fraction"
    needs: ClassVar = "labels of at least two classes, with at least 5 images each"
    better: ClassVar = "higher"
    default: ClassVar = False

    def __init__(self, *, k: Positive = 5) -> None:
        self.k = k

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether there are at least two classes with at least 5 images each."""
        return has_labels_for_folds(split.labels)

    def rows(self, encoded: EncodedSplit) -> Tensor:
        """(labeled image,): 1 for correct predictions, 0 for others."""
        from sklearn.neighbors import NearestNeighbors

        points, labels = labeled_latents(encoded)
        near = NearestNeighbors(n_neighbors=min(self.k, len(points) - 1)).fit(points)
        # Without an argument, `kneighbors` excludes each image from its own neighbors.
        votes = labels[near.kneighbors(return_distance=False)]
        counts = np.zeros((len(labels), labels.max() + 1), np.int64)
        np.add.at(counts, (np.arange(len(labels))[:, None], votes), 1)
        return torch.from_numpy((counts.argmax(1) == labels).astype(np.float64))
