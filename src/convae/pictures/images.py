"""Images of any channel count and dimension as RGB pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convae.core.errors import DataError, ShapeError
from convae.pictures.signals import panels

SLICES = 9
"""At most this many slices of a volume are shown."""


def array(values: ArrayLike) -> NDArray[np.generic]:
    """An array of numbers from anything that holds one: nested lists, numpy, or a tensor of any device and type."""
    tensor: Any = values
    if hasattr(tensor, "detach"):  # torch's; numpy has no bfloat16
        tensor = tensor.detach().cpu()
        return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
    return np.asarray(values)


def checked(images: ArrayLike) -> NDArray[np.float64]:
    """Images as floats in [0, 1], (batch, channel, *sizes), one to three sizes.

    Raises:
        ShapeError: not a batch of signals, images or volumes.
        DataError: no images, values that are not finite, or values beyond [0, 1] by more than half a gray level.
    """
    found = array(images)
    if not 3 <= found.ndim <= 5:
        raise ShapeError(
            f"a picture needs (batch, channel, *sizes) with one to three sizes, got an array of shape {found.shape}"
        )
    if found.size == 0:
        raise DataError(f"a picture needs at least one image with at least one value, got shape {found.shape}")
    if found.dtype == np.uint8:
        return found.astype(np.float64) / 255
    if not np.issubdtype(found.dtype, np.floating):
        raise DataError(f"a picture needs floats in [0, 1] or bytes (uint8), got {found.dtype}")
    values = found.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("a picture needs finite values, and these images hold NaN or infinity")
    low, high = float(values.min()), float(values.max())
    if low < -1 / 510 or high > 1 + 1 / 510:
        raise DataError(f"a picture needs values in [0, 1], and these reach from {low:.4g} to {high:.4g}")
    return values.clip(0, 1)


def _colored(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Three channels from any number of them."""
    channels = values.shape[1]
    if channels == 1:
        return values.repeat(3, axis=1)
    if channels == 2:
        return np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)
    if channels == 4:
        return 1 + (values[:, :3] - 1) * values[:, 3:]
    return values[:, :3]


def _sliced(volumes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(batch, channel, depth, height, width) to evenly spaced slices along the first axis, in reading order.

    A gray line of one pixel parts the slices.
    """
    depth, height, width = volumes.shape[2:]
    count = min(depth, SLICES)
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    montage = np.full((*volumes.shape[:2], down * (height + 1) - 1, across * (width + 1) - 1), 0.4)
    # The middles of `count` equal parts of the depth: a single slice is the middle one.
    for place, index in enumerate(((np.arange(count) + 0.5) * depth / count).astype(int)):
        top, left = place // across * (height + 1), place % across * (width + 1)
        montage[:, :, top : top + height, left : left + width] = volumes[:, :, index]
    return montage


def to_uint8(images: ArrayLike) -> NDArray[np.uint8]:
    """Images as RGB pixels.

    One channel is gray; two are red and green; three are RGB; four are RGBA over white; of more, the first three are
    shown. A volume becomes a montage of up to nine evenly spaced slices along its first axis, a signal a line plot.

    Args:
        images: (batch, channel, *sizes), floats in [0, 1] or bytes.

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
