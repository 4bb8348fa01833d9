"""Types of stored pixels, and conversion between them and Pillow images."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convae.core.errors import DataError
from convae.core.names import shape_text

Kind = Literal["uint8", "uint16", "float32"]
"""Type of stored values. Integers are fractions of the largest value of the type; floats are in [0, 1]."""

LEVELS: dict[Kind, int | None] = {"uint8": 256, "uint16": 65536, "float32": None}
"""Number of levels of a type; None for floats."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
"""(*sizes, channels): a stored image."""

ResizeMode = Literal["crop", "pad", "squash"]
"""Resizing to another aspect ratio: center crop, padding with black bars, or distortion."""
Interpolation = Literal["bicubic", "bilinear"]
"""How pixels are interpolated, with antialiasing."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode by number of channels."""
ROUNDING = 1e-4
"""How far a float may be outside [0, 1] by rounding; it is then clamped."""
_NEEDED = "pixels must be unsigned integers of 8 or 16 bits or floats in [0, 1]"


def as_kind(values: NDArray[Any], kind: str) -> Pixels:
    """Converts values to another type by range: the largest value of an integer type is 1.0.

    Raises:
        DataError: unsupported type, or floats outside [0, 1].
    """
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype == kind and values.dtype in (np.uint8, np.uint16):
        return values
    if np.issubdtype(values.dtype, np.floating):
        low, high = values.min(), values.max()
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):
            raise DataError(f"{_NEEDED}, got values from {low:g} to {high:g}")
        scaled: NDArray[np.float32] = values.astype(np.float32, copy=False)
        if low < 0 or high > 1:
            scaled = scaled.clip(0, 1)
    elif values.dtype in (np.uint8, np.uint16):
        scaled = np.divide(values, np.iinfo(values.dtype).max, dtype=np.float32)
    else:
        raise DataError(f"{_NEEDED}, got {values.dtype}")
    return scaled if kind == "float32" else np.rint(scaled * float(np.iinfo(kind).max)).astype(kind)


def picture(pixels: Pixels) -> Image.Image:
    """Converts pixels (height, width, channels) to a Pillow image.

    Raises:
        DataError: the number of channels is not 1, 3 or 4.
    """
    if pixels.ndim != 3 or pixels.shape[-1] not in MODES:
        raise DataError(f"expected an image of 1, 3 or 4 channels, got the shape {shape_text(pixels.shape)}")
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
