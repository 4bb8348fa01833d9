"""Thinning of lines with many points for drawing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def thinned(y: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Indices of at most about `most` points: minimum, maximum and first missing value of each of equal parts.

    Peaks and gaps are kept, and so are the first and the last point.

    Args:
        y: (point,), NaN where a value is missing.
        most: approximate number of points to keep.
    """
    if len(y) <= most:
        return np.arange(len(y))
    kept = [np.array([0, len(y) - 1])]
    for part in np.array_split(np.arange(len(y)), max(most // 3, 1)):
        missing = np.isnan(y[part])
        if missing.any():
            kept.append(part[[int(missing.argmax())]])
        if not missing.all():
            kept.append(part[[int(np.nanargmin(y[part])), int(np.nanargmax(y[part]))]])
    return np.unique(np.concatenate(kept))
