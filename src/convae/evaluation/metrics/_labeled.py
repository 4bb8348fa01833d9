"""What the metrics that need labels have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.evaluation.metrics.base import Encoded

FOLDS = 5


def has_labels_for_folds(labels: NDArray[np.int64] | None) -> bool:
    """Whether there are two classes or more, each with an image for every fold."""
    if labels is None:
        return False
    counts = np.unique(labels[labels >= 0], return_counts=True)[1]
    return len(counts) > 1 and bool(counts.min() >= FOLDS)


def labeled_latents(encoded: Encoded) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(image, value) posterior means and (image,) class numbers of the images that have one."""
    assert encoded.labels is not None  # the metrics apply to nothing else
    known = encoded.labels >= 0
    return encoded.mean[known].flatten(1).double().numpy(), encoded.labels[known].numpy()
