"""Fewer points for the same picture: a line of 100,000 points has no more ink than one of a few thousand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def thinned(y: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Which points to draw, at most about `most`: the lowest, the highest and the first missing of each stretch.

    Peaks and gaps therefore survive. The first and the last point are always among them.

    Args:
        y: (point,), NaN where a value is missing.
        most: how many points a picture can show.
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
