"""Accuracy of a linear classifier on latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.evaluation.metrics._labeled import FOLDS, ClassificationMetric


class LinearProbe(ClassificationMetric):
    """Accuracy of logistic regression on standardized posterior means, by five-fold cross-validation.

    Folds are stratified by class; unlabeled images are omitted.
    """

    def predict(self, points: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The class of each point, by the regression on the other folds."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-3))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        predicted: NDArray[np.int64] = cross_val_predict(probe, points, labels, cv=folds)
        return predicted
