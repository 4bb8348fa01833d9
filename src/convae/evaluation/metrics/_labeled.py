"""Shared code of metrics that need labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.evaluation.metrics.base import EncodedSplit

FOLDS = 5


def has_labels_for_folds(labels: NDArray[np.int64] | None) -> bool:
    """Whether there are at least two classes, each with at least as many images as folds."""
    if labels is None:
        return False
    counts = np.unique(labels[labels >= 0], return_counts=True)[1]
    return len(counts) > 1 and bool(counts.min() >= FOLDS)


def labeled_latents(encoded: EncodedSplit) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Posterior means, (image, value), and class numbers, (image,), of the labeled images."""
    assert encoded.labels is not None  # `applies` requires them
    known = encoded.labels >= 0
    return encoded.mean[known].flatten(1).double().numpy(), encoded.labels[known].numpy()
