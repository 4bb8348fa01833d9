"""How often an image's neighbors in the latent space are of its class."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from convae.core.arguments import Positive
from convae.data import Split
from convae.evaluation.metrics._labeled import has_labels_for_folds, labeled_latents
from convae.evaluation.metrics.base import Encoded, LatentMetric
from convae.model.vae import VAE


class NearestNeighbors(LatentMetric):
    """Accuracy of the vote of the k nearest other images, by Euclidean distance of posterior means.

    Args:
        k: how many vote; of classes with equally many votes, the one with the smallest number wins.
    """

    unit: ClassVar = "fraction"
    needs: ClassVar = "labels, of two classes or more with 5 images each"
    better: ClassVar = "higher"
    default: ClassVar = False

    def __init__(self, *, k: Positive = 5) -> None:
        self.k = k

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether there are classes to distinguish."""
        return has_labels_for_folds(split.labels)

    def rows(self, encoded: Encoded) -> Tensor:
        """(labeled image,): 1 where the class was found."""
        from sklearn.neighbors import NearestNeighbors

        points, labels = labeled_latents(encoded)
        near = NearestNeighbors(n_neighbors=min(self.k, len(points) - 1)).fit(points)
        # Asked without points, every image is left out of its own neighbors.
        votes = labels[near.kneighbors(return_distance=False)]
        counts = np.zeros((len(labels), labels.max() + 1), np.int64)
        np.add.at(counts, (np.arange(len(labels))[:, None], votes), 1)
        return torch.from_numpy((counts.argmax(1) == labels).astype(np.float64))
