"""Accuracy of a linear classifier on latents."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from convae.data import Split
from convae.evaluation.metrics._labeled import FOLDS, has_labels_for_folds, labeled_latents
from convae.evaluation.metrics.base import EncodedSplit, LatentMetric
from convae.model.vae import VAE


class LinearProbe(LatentMetric):
    """Accuracy of logistic regression on standardized posterior means, by five-fold cross-validation.

    Folds are stratified by class; unlabeled images are omitted.
    """

    unit: ClassVar = "fraction"
    needs: ClassVar = "labels of at least two classes, with at least 5 images each, that the encoder does not see"
    better: ClassVar = "higher"
    default: ClassVar = False

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether every class has an image in each fold, and the model is not conditional."""
        return model.condition is None and has_labels_for_folds(split.labels)

    def unmeasurable(self, encoded: EncodedSplit) -> str | None:
        """Latents that are not finite."""
        return None if bool(encoded.mean.isfinite().all()) else "latents are not finite"

    def rows(self, encoded: EncodedSplit) -> Tensor:
        """(labeled image,): 1 for correct predictions, 0 for others."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        points, labels = labeled_latents(encoded)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-3))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        predicted = cross_val_predict(probe, points, labels, cv=folds)
        return torch.from_numpy((predicted == labels).astype(np.float64))
