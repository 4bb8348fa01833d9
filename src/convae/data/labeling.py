"""Few labels: the others are hidden from training, as if nobody had written them down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convae.core.random import numpy_generator
from convae.core.types import MISSING_LABEL


def mask_labels(labels: NDArray[np.int64], keep: int | float, seed: int) -> NDArray[np.int64]:
    """The labels of some images, the others missing.

    Args:
        labels: (images,) class numbers, -1 where one is missing.
        keep: how many: a whole number, or, as a float, a fraction of the known ones. Each class keeps as many, up to
            one, as long as it has them.
        seed: of the choice. A larger number keeps what a smaller one keeps, and more.
    """
    known = np.flatnonzero(labels != MISSING_LABEL)
    count = keep if isinstance(keep, int) else round(keep * len(known))
    order = numpy_generator(seed, "labels").permutation(known)
    # The first of each class, then the second of each, and so on.
    by_class = np.argsort(labels[order], kind="stable")
    firsts = np.searchsorted(labels[order][by_class], labels[order][by_class])
    turns = np.empty_like(firsts)
    turns[by_class] = np.arange(len(order)) - firsts
    chosen = order[np.argsort(turns, kind="stable")][:count]
    result = np.full_like(labels, MISSING_LABEL)
    result[chosen] = labels[chosen]
    return result
