"""Values per pixel as colors: images that any sheet can show, such as a row of errors under the reconstructions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convae.core.errors import DataError, ShapeError
from convae.pictures.images import array

__all__ = ["heat"]


def heat(values: ArrayLike, *, top: float | None = None) -> NDArray[np.float64]:
    """Images of values from 0 (black) through purple and orange to `top` (pale yellow), matplotlib's `inferno`.

    Args:
        values: (batch, *sizes), not negative, two or three sizes.
        top: the value that is shown brightest, as are those above it; by default the largest.

    Returns:
        (batch, 3, *sizes) in [0, 1].

    Raises:
        ShapeError: not a batch of maps.
        DataError: nothing to show, or values that are negative or not finite.
    """
    from matplotlib import colormaps

    found = array(values).astype(np.float64)
    if found.ndim not in (3, 4):
        raise ShapeError(f"a heat map needs values (batch, *sizes) with two or three sizes, got shape {found.shape}")
    if not found.size or not np.isfinite(found).all() or found.min() < 0:
        raise DataError("a heat map needs at least one value, and only finite ones that are not negative")
    largest = found.max() if top is None else top
    return np.moveaxis(colormaps["inferno"](np.clip(found / (largest or 1), 0, 1))[..., :3], -1, 1)
