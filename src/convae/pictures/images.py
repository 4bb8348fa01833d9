"""Conversion of images with any number of channels and spatial axes to RGB."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convae.core.errors import DataError, ShapeError
from convae.pictures.signals import panels

SLICES = 9
"""Largest number of slices shown of a volume."""


def array(values: ArrayLike) -> NDArray[np.generic]:
    """Converts nested lists, arrays, or tensors of any device and dtype to a NumPy array."""
    tensor: Any = values
    if hasattr(tensor, "detach"):  # a tensor; NumPy has no bfloat16
        tensor = tensor.detach().cpu()
        return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
    return np.asarray(values)


def checked(images: ArrayLike) -> NDArray[np.float64]:
    """Validates images and converts them to floats in [0, 1], (batch, channel, *sizes).

    Raises:
        ShapeError: not a batch of signals, images or volumes.
        DataError: no images, non-finite values, or values outside [0, 1] by more than half an 8-bit level.
    """
    found = array(images)
    if not 3 <= found.ndim <= 5:
        raise ShapeError(f"images: expected (batch, channel, *sizes) with one to three sizes, got {found.shape}")
    if found.size == 0:
        raise DataError(f"images: expected at least one image with at least one value, got {found.shape}")
    if found.dtype == np.uint8:
        return found.astype(np.float64) / 255
    if not np.issubdtype(found.dtype, np.floating):
        raise DataError(f"images: expected floats in [0, 1] or uint8, got {found.dtype}")
    values = found.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("images: contain NaN or infinity")
    low, high = float(values.min()), float(values.max())
    if low < -1 / 510 or high > 1 + 1 / 510:
        raise DataError(f"images: expected values in [0, 1], got {low:.4g} to {high:.4g}")
    return values.clip(0, 1)


def _colored(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Converts any number of channels to three."""
    channels = values.shape[1]
    if channels == 1:
        return values.repeat(3, axis=1)
    if channels == 2:
        return np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)
    if channels == 4:
        return 1 + (values[:, :3] - 1) * values[:, 3:]
    return values[:, :3]


def _sliced(volumes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Converts volumes to montages of evenly spaced slices along the first axis, separated by a gray line."""
    depth, height, width = volumes.shape[2:]
    count = min(depth, SLICES)
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    montage = np.full((*volumes.shape[:2], down * (height + 1) - 1, across * (width + 1) - 1), 0.4)
    # The centers of `count` equal parts of the depth.
    for place, index in enumerate(((np.arange(count) + 0.5) * depth / count).astype(int)):
        top, left = place // across * (height + 1), place % across * (width + 1)
        montage[:, :, top : top + height, left : left + width] = volumes[:, :, index]
    return montage


def to_uint8(images: ArrayLike) -> NDArray[np.uint8]:
    """Converts images to 8-bit RGB.

    One channel is gray; two are red and green; three are RGB; four are RGBA on white; of more, the first three are
    shown. A volume becomes a montage of up to nine evenly spaced slices along its first axis, a signal a line plot.

    Args:
        images: (batch, channel, *sizes), floats in [0, 1] or uint8.

    Returns:
        (batch, height, width, 3).

    Raises:
        ShapeError: not a batch of signals, images or volumes.
        DataError: no images, or values out of range.
    """
    values = checked(images)
    if values.ndim == 3:
        return panels(values)
    colors = _colored(values)
    if colors.ndim == 5:
        colors = _sliced(colors)
    return np.rint(colors * 255).astype(np.uint8).transpose(0, 2, 3, 1)
