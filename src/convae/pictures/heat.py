"""Heat maps of values per pixel, as images for a sheet, such as a row of errors below the reconstructions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convae.core.errors import DataError, ShapeError
from convae.pictures.images import array

__all__ = ["heat"]


def heat(values: ArrayLike, *, top: float | None = None) -> NDArray[np.float64]:
    """Maps values from 0 to `top` to the colors of matplotlib's `inferno`.

    Args:
        values: (batch, *sizes), at least 0, with two or three sizes.
        top: value of the brightest color; larger ones are clipped. By default the largest.

    Returns:
        (batch, 3, *sizes) in [0, 1].

    Raises:
        ShapeError: not (batch, *sizes) with two or three sizes.
        DataError: no values, or negative or non-finite ones.
    """
    from matplotlib import colormaps

    found = array(values).astype(np.float64)
    if found.ndim not in (3, 4):
        raise ShapeError(f"heat: expected (batch, *sizes) with two or three sizes, got {found.shape}")
    if not found.size or not np.isfinite(found).all() or found.min() < 0:
        raise DataError("heat: expected at least one value, all finite and at least 0")
    largest = found.max() if top is None else top
    return np.moveaxis(colormaps["inferno"](np.clip(found / (largest or 1), 0, 1))[..., :3], -1, 1)
